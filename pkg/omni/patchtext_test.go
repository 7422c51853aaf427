package omni

import (
	"strings"
	"testing"
)

// A newer omnictl wrote the same patch with other quotes, and its adoption planned an update of every machine.
func TestSamePatch(t *testing.T) {
	t.Parallel()

	bomb := "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
	for _, c := range "bcdefgh" {
		bomb += string(c) + ": &" + string(c) + " [*" + strings.TrimSuffix(strings.Repeat(string(c-1)+", *", 10), ", *") + "]\n"
	}

	for _, test := range []struct {
		name string
		a, b string
		same bool
	}{
		{"quotes", `machine: {env: {A: "n", 'B': 'x'}}`, "machine:\n  env:\n    A: n\n    B: x\n", true},
		{"indentation, comments, an end", "# why\nmachine:\n    env:\n        A: x # that\n", "---\nmachine:\n  env: {A: x}\n...\n", true},
		{"order of keys", "{a: 1, b: 2}", "{b: 2, a: 1}", true},
		{"a block and a string", "a: |-\n  one\n  two\n", `a: "one\ntwo"`, true},
		{"a block's last line break", "a: |\n  one\n", "a: one", false},
		{"documents that hold nothing", "---\n---\na: 1\n---\n# nothing\n", "a: 1", true},
		{"nothing and nothing", "", "# nothing", true},
		{"nothing and something", "", "a: 1", false},
		{"two documents", "a: 1\n---\nb: 1\n", "a: 1\n---\n\"b\": 1\n", true},
		{"two documents in another order", "a: 1\n---\nb: 1\n", "b: 1\n---\na: 1\n", false},
		{"a document more", "a: 1\n", "a: 1\n---\nb: 1\n", false},
		{"order of a list", "[1, 2]", "[2, 1]", false},
		{"JSON and YAML", `[{"op": "remove", "path": "/x"}]`, "- path: /x\n  op: remove\n", true},
		{"a number and a string", "a: 1", `a: "1"`, false},
		{"a boolean and a string", "a: true", `a: "true"`, false},
		{"equal as numbers, not as versions", "a: 1.10", "a: 1.1", false},
		{"two ways to write nothing", "a: ~", "a: null", true},
		{"nothing and an empty string", "a:", `a: ""`, false},
		{"an alias", "a: &x {b: 1}\nc: *x\n", "a: {b: 1}\nc: {b: 1}\n", true},
		{"a key less", "{a: 1, b: 2}", "{a: 1}", false},
		{"another key", "{a: 1}", "{b: 1}", false},
		{"a key twice", "{a: 1, b: 1, a: 2}", "{a: 1, b: 1, 'a': 2}", false},
		{"a key that is no scalar", "{[a]: 1}", "{['a']: 1}", false},
		{"what does not parse", "a: [", "a: [ ", false},
		{"an alias of itself", "a: &x {b: *x}", "a: &x {'b': *x}", false},
		{"aliases that mean millions", bomb, bomb + "# the end\n", false},
	} {
		if got := samePatch([]byte(test.a), []byte(test.b)); got != test.same {
			t.Errorf("%s: %v, want %v", test.name, got, test.same)
		}

		if got := samePatch([]byte(test.b), []byte(test.a)); got != test.same {
			t.Errorf("%s, the other way round: %v, want %v", test.name, got, test.same)
		}
	}
}

func FuzzSamePatch(f *testing.F) {
	f.Add("a: 1", "'a': 1")
	f.Add("a: &x {b: *x}", "a: &x {'b': *x}")
	f.Add("<<: {a: 1}", "<<: {'a': 1}")

	f.Fuzz(func(t *testing.T, a, b string) {
		if samePatch([]byte(a), []byte(b)) != samePatch([]byte(b), []byte(a)) {
			t.Error("it depends on the order")
		}
	})
}
