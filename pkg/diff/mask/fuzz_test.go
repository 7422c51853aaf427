package mask

import (
	"strings"
	"testing"
	"time"

	"gopkg.in/yaml.v3"
)

const canary = "C4naryValue"

// oracle finds the canary under the key "password", in a way of its own: in the values that the text decodes to.
func oracle(text string) bool {
	decoder := yaml.NewDecoder(strings.NewReader(text))
	found := false

	for {
		var value any
		if decoder.Decode(&value) != nil {
			return found
		}

		found = found || under(value, false)
	}
}

func under(value any, password bool) bool {
	switch value := value.(type) {
	case string:
		return password && strings.Contains(value, canary)
	case []any:
		for _, element := range value {
			if under(element, password) {
				return true
			}
		}
	case map[string]any:
		for key, element := range value {
			if key != "properties" && under(element, password || key == "password") {
				return true
			}
		}
	}

	return false
}

// restore puts the original text back in the place of each marker.
func restore(m *markers, text string) string {
	return m.replace(text, func(_, id int) string { return m.secrets[id].raw })
}

func FuzzText(f *testing.F) {
	for _, seed := range seeds {
		f.Add(seed)
	}

	f.Fuzz(func(t *testing.T, text string) {
		began := time.Now()
		m := &masker{markers: newMarkers(), side: sideNew}
		masked := m.payload(text, nil)

		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%d bytes took %v", len(text), took)
		}

		if got := restore(m.markers, masked); got != text {
			t.Errorf("what is not secret is not byte for byte as it was:\n%q\n%q\n%q", text, masked, got)
		}

		free := &masker{markers: newMarkers(), side: sideNew}
		if got := restore(free.markers, free.field([]string{"spec", "args"}, text)); got != text {
			t.Errorf("a field: %q, restored: %q", text, got)
		}

		// A canary that stands in one place only, and that is a password.
		if strings.Count(text, canary) == 1 && oracle(text) && strings.Contains(masked, canary) {
			t.Errorf("the canary is shown:\n%s\n%s", text, masked)
		}
	})
}

var seeds = []string{
	"password: " + canary,
	"a: {password: [" + canary + ", b]}\nc: d # e\n",
	"a: &a " + canary + "\nb: {password: *a}\n",
	"x: &x {password: " + canary + "}\ny: {<<: *x, z: 1}\n",
	"x: &x {n: " + canary + "}\npassword: {<<: *x, z: 1}\n",
	"password: |\n  one\n  " + canary + "\n\nnext: |+\n  a\n\n",
	"password: >2-\n   one\n  " + canary + "\n# c\n",
	"password: \"a\\\"" + canary + "\\\n  b\"\n",
	"password: 'a''\n  " + canary + "'\n",
	"? password\n: " + canary + "\n",
	"? &k password\n: !!str &v " + canary + "\n? *k\n: c\n",
	"password:\n- - " + canary + "\n- b\n---\na: b\n...\n",
	"\ufeffpassword: ä " + canary + "\r\nb: ü\u0085c: d\r\n",
	"password: a\n  " + canary + "\n\n  b\nc: d\n",
	`[{"op":"add","path":"/machine/token","value":"` + canary + `"}]`,
	`{"password":"` + canary + `","b":[1,2,{}]}`,
	"a: |\n  kind: Secret\n  data:\n    a: " + canary + "\n",
	"kind: Secret\ndata: {password: " + canary + "}\n",
	"password: !!null " + canary,
	"password: {" + canary + "}",
	"a: https://b:" + canary + "@c\nargs: [--password, " + canary + "]",
	"#password: " + canary + "\na:\t'b'\n",
	"%YAML 1.1\n---\npassword: " + canary + "\n",
	"a: [\n\tb, password: " + canary + "\n]\n",
	"a: |\n  b\n\n   c\n  password: " + canary + "\n  d: >\n   e\n\n",
}

// What is odd and can be read is masked in its place, and not as a whole.
func TestOddTextsAreMaskedInPlace(t *testing.T) {
	for text, want := range map[string]string{
		"\ufeffpassword: x\r\nnext: 1\r\n":              "\ufeffpassword: (secret)\r\nnext: 1\r\n",
		"a: ü # ß\nü: {password: x, b: ü}\n":            "a: ü # ß\nü: {password: (secret), b: ü}\n",
		"a: b\u2028password: x\u0085c: d\n":             "a: b\u2028password: (secret)\u0085c: d\n",
		"password: !!str &a # b\n  x\nc: d\n":           "password: !!str &a # b\n  (secret)\nc: d\n",
		"password: a\n  b\n\n  c\nd: e\n":               "password: (secret)\nd: e\n",
		"password: |2-\n    a\n   b\n\n\nc: d\n":        "password: (secret)\n\n\nc: d\n",
		"password: >\n  a\n  b\n # c\nd: e\n":           "password: (secret)\n # c\nd: e\n",
		"\"password\":\t'a''b'\n":                       "\"password\":\t(secret)\n",
		"%YAML 1.1\n---\npassword: a\n...\n# b\n":       "%YAML 1.1\n---\npassword: (secret)\n...\n# b\n",
		"a:\n- b: |\n\n   c\n\n    password: d\n   e\n": "a:\n- b: |\n\n   c\n\n    password: (secret)\n   e\n",
		"password: x\npassword: y\n":                    "password: (secret)\npassword: (secret)\n",
		"password:\nb: c\n":                             "password:\nb: c\n",
		"":                                              "",
		"# nothing\n":                                   "# nothing\n",
	} {
		got, err := Text(text, Options{})
		if err != nil {
			t.Fatal(err)
		}

		if got != want {
			t.Errorf("%q is shown as %q, not as %q", text, got, want)
		}
	}
}

// Hostile texts cost a bounded time and do not crash.
func TestG12_HostileTexts(t *testing.T) {
	const size = 1 << 20

	bomb := "a0: &a0 [" + canary + "]\n"
	for i := 1; i < 40; i++ {
		previous := "*a" + string(rune('0'+(i-1)/10)) + string(rune('0'+(i-1)%10))
		if i == 1 {
			previous = "*a0"
		}

		bomb += "k" + strings.Repeat("x", i) + ": &a" + string(rune('0'+i/10)) + string(rune('0'+i%10)) + " [" + strings.Repeat(previous+", ", 9) + previous + "]\n"
	}

	for name, text := range map[string]string{
		"aliases":          bomb + "password: *a39\n",
		"merges":           strings.NewReplacer("[", "{<<: [", "]", "]}").Replace(bomb) + "password: *a39\n",
		"cycle":            "password: &a [" + canary + ", *a]\n",
		"merge cycle":      "&a\n<<: *a\npassword: " + canary + "\n",
		"deep flow":        strings.Repeat("[", size) + canary,
		"deep, closed":     strings.Repeat("[", 9000) + canary + strings.Repeat("]", 9000),
		"deep braces":      strings.Repeat("{a: ", size/4) + canary,
		"deep blocks":      strings.Repeat("- ", 9000) + canary,
		"one long line":    "password: " + strings.Repeat("a", size) + canary,
		"long key":         strings.Repeat("a", size) + "password: " + canary,
		"long quoted":      "password: \"" + strings.Repeat("\\\"", size/2) + canary + "\"",
		"open quote":       "password: \"" + strings.Repeat("a\n", size/2) + canary,
		"many keys":        strings.Repeat("password: "+canary+"\n", size/25),
		"many comments":    strings.Repeat("# password: "+canary+"\n", size/25) + "a: b\n",
		"many documents":   strings.Repeat("password: "+canary+"\n---\n", size/25),
		"many anchors":     strings.Repeat("- &a password\n", size/14) + "- {*a : " + canary + "}\n",
		"long literal":     "password: |\n" + strings.Repeat("  a\n", size/4) + "  " + canary + "\n",
		"text in literal":  "data: |\n" + strings.Repeat("  password: "+canary+"\n", size/25),
		"no YAML, pairs":   strings.Repeat("token="+canary+" ", size/20),
		"no YAML, urls":    "a: |\n  {\n" + strings.Repeat("  http://a:"+canary+"@b\n", size/25),
		"no YAML, keys":    "a: |\n  {\n" + strings.Repeat("  password: |\n    "+canary+"\n", size/30),
		"no YAML, empties": "a: |\n  {\n" + strings.Repeat("  password:\n", size/14) + "    " + canary + "\n",
		"flow of flow":     "a: '" + strings.Repeat("{\"password\": ", size/14) + canary + "'",
		"spaces":           "a: |\n  {\n  password" + strings.Repeat(" ", size) + ": " + canary + "\n",
		"dots":             "a: " + strings.Repeat("a.", size/2) + "password=" + canary,
		"percent":          "a: " + strings.Repeat("%a-", size/3) + "=" + "password=" + canary,
		"begins":           "a: |\n" + strings.Repeat("  -----BEGIN PRIVATE KEY-----\n", size/30) + "  " + canary + "\n",
		"too large":        "password: " + canary + "\n" + strings.Repeat("a: b\n", maxText/5),
	} {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			m := &masker{markers: newMarkers(), side: sideNew}
			out := m.payload(text, nil)
			took := time.Since(began)

			t.Logf("%d bytes in %v", len(text), took)

			if strings.Contains(out, canary) {
				t.Error("the canary is shown")
			}

			if restore(m.markers, out) != text {
				t.Error("what is not secret is not byte for byte as it was")
			}

			// Generous, for a busy machine with the race detector: what is not bounded takes minutes.
			if took > 30*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}
