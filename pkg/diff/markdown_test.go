package diff_test

import (
	"bytes"
	"fmt"
	"html"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/cosi-project/runtime/pkg/resource"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/report"
)

func markdown(tb testing.TB, r *diff.Report, opts diff.MarkdownOptions) string {
	tb.Helper()

	var out bytes.Buffer
	if err := diff.WriteMarkdown(&out, r, opts); err != nil {
		tb.Fatal(err)
	}

	return out.String()
}

// hostile is what somebody would write who wants out of the comment.
var hostile = []string{
	"@octocat", "@org/team", "a|b", "`@octocat`", "```\n@octocat\n```", "<script>alert(1)</script>", "</details><h1>x</h1>", "<!-- x", "--> x",
	"[click](https://evil.example)", "![x](https://evil.example/x.png)", "https://evil.example", "www.evil.example", "mailto:a@b.example", "#1", "org/repo#1", "GH-1",
	"# heading", "- [ ] task", "| a | b |\n|---|---|", "\u202Egnp.exe", "\x1b[31mred", "a\r\nb", "&lt;b&gt;", "**bold** _it_ ~~no~~", "$x^2$", ":tada:", "\\`\\|", "``` ```` `````",
	"\xff\xfe", "", " ", "`", "a`", "\u2028# x", "[^1]: x", "> [!WARNING]\n> x", "<a href='x' onclick=x>",
}

// poisoned is a report with one text in every place that is not ours.
func poisoned(text string) *diff.Report {
	bad := func(id string) resource.Resource {
		return with(patch(id, "machine:\n  sysctls:\n    a: |\n      "+strings.ReplaceAll(text, "\n", "\n      ")+"\n"), label(text, text), note("x"+text, text), ours)
	}

	plan := diff.Compute(diff.Input{
		Source: text, Target: "one", KeepParts: true,
		Desired: resources{cluster("1.35.0", label(text, text)), bad("200-a" + text)},
		Live: resources{
			cluster("1.34.3", ours), bad("200-b" + text), bad("500-foreign" + text), with(machineSet("one-"+text), owned),
		},
	})
	plan.Target = text
	plan.Conflicts = []diff.Conflict{{Resource: bad(text), Reason: text}}
	plan.Waiting = []diff.Waiting{{Resource: bad(text), Reason: text}}
	plan.Foreign = append(plan.Foreign, bad(text))
	plan.Left = append(plan.Left, diff.Left{Resource: bad(text), Reason: text})

	return &diff.Report{
		Name: text, Base: text, Revision: text,
		Entries: []diff.Entry{{Plan: plan, Path: text, Held: text, Consequences: []diff.Consequence{
			{Severity: diff.Destructive, Text: text, Short: text}, {Severity: diff.Info, Text: "x " + text + " y", Short: "x" + text},
		}}},
		Problems: []report.Finding{{Rule: text, Level: report.Error, Message: text, File: text, Line: 1, Column: 1, Target: text}},
	}
}

var (
	refers      = regexp.MustCompile("(?i)[@#!$%~&](?:[^\u200b]|$)|\\bgh-[0-9]")
	escapedPair = regexp.MustCompile(`\\.`)
	inCode      = regexp.MustCompile(`<code>[^<]*</code>`)
	link        = regexp.MustCompile(`(?:^|[^\\])\](?:\(|\[|:)`)
	allowed     = regexp.MustCompile(`</?(?:details|summary|code|sub|span)(?: open| title="[a-z]+")?>`)
)

// check holds a comment to what nothing from outside may change.
func checkMarkdown(tb testing.TB, text string) {
	tb.Helper()

	if !utf8.ValidString(text) {
		tb.Error("no UTF-8")
	}

	first, rest, _ := strings.Cut(text, "\n")
	if !strings.HasPrefix(first, "<!-- omni-syncd:plan:") || !strings.HasSuffix(first, " -->") || strings.Count(first, "--") != 2 {
		tb.Errorf("marker %q", first)
	}

	fence := ""

	for line := range strings.Lines(rest) {
		line = strings.TrimSuffix(line, "\n")

		if fence != "" {
			if strings.HasPrefix(strings.TrimSpace(line), fence) {
				if line != fence {
					tb.Errorf("a line ends the block: %q", line)
				}

				fence = ""
			}

			continue
		}

		if strings.HasPrefix(line, "```") {
			fence = strings.TrimSuffix(line, "diff")

			continue
		}

		plain := strings.ReplaceAll(outsideOfCode(line), "see the [full plan](<https://ci.example/1>)", "")
		plain = inCode.ReplaceAllString(plain, "<code></code>")

		if strings.HasPrefix(line, "| ") && !strings.HasPrefix(line, "| | target") {
			if n := strings.Count(escapedPair.ReplaceAllString(line, ""), "|"); n != 8 {
				tb.Errorf("%d bars in the row %q", n, line)
			}
		}

		if bad := refers.FindString(html.UnescapeString(strings.TrimPrefix(plain, "### "))); bad != "" {
			tb.Errorf("%q in %q", bad, line)
		}

		for _, bad := range []string{"://", "www.", "<!--", "\x1b", "\u202e"} {
			if strings.Contains(strings.ToLower(plain), bad) {
				tb.Errorf("%q in %q", bad, line)
			}
		}

		if strings.ContainsAny(allowed.ReplaceAllString(plain, ""), "<") {
			tb.Errorf("HTML in %q", line)
		}

		if link.MatchString(plain) {
			tb.Errorf("a link in %q", line)
		}

		if strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "### ") {
			tb.Errorf("a heading: %q", line)
		}
	}

	if fence != "" {
		tb.Error("a block is left open")
	}

	if strings.Count(text, "\n<details") != strings.Count(text, "\n</details>\n") {
		tb.Error("details are left open")
	}
}

// outsideOfCode leaves code spans out of a line, as CommonMark reads them: a run of
// backticks ends at the next run of the same length.
func outsideOfCode(line string) string {
	var out strings.Builder

	for i := 0; i < len(line); {
		if line[i] == '\\' && i+1 < len(line) {
			out.WriteString(line[i : i+2])
			i += 2

			continue
		}

		if line[i] != '`' {
			out.WriteByte(line[i])
			i++

			continue
		}

		run := i
		for run < len(line) && line[run] == '`' {
			run++
		}

		end := -1

		for j := run; j < len(line); {
			if line[j] != '`' {
				j++

				continue
			}

			k := j
			for k < len(line) && line[k] == '`' {
				k++
			}

			if k-j == run-i {
				end = k

				break
			}

			j = k
		}

		if end < 0 {
			out.WriteString(line[i:run])
			i = run
		} else {
			i = end
		}
	}

	return out.String()
}

func TestMarkdown_Hostile(t *testing.T) {
	for _, text := range hostile {
		t.Run(fmt.Sprintf("%q", text), func(t *testing.T) { checkMarkdown(t, markdown(t, poisoned(text), diff.MarkdownOptions{})) })
	}

	checkMarkdown(t, markdown(t, poisoned(strings.Join(hostile, " ")), diff.MarkdownOptions{}))
}

func FuzzMarkdown(f *testing.F) {
	for _, text := range hostile {
		f.Add(text)
	}

	f.Fuzz(func(t *testing.T, text string) { checkMarkdown(t, markdown(t, poisoned(text), diff.MarkdownOptions{})) })
}

// G12: whatever the limit is, it is held, and what is left out is said.
func TestG12_MarkdownFits(t *testing.T) {
	r := scenarios()["sixty-clusters"].report(t)
	whole := markdown(t, r, diff.MarkdownOptions{Limit: 10_000_000})

	if strings.Contains(whole, "✂️") {
		t.Error("something is left out for no reason")
	}

	before := len(whole)

	for _, limit := range []int{len(whole), len(whole) - 1, diff.MaxComment, 40_000, 30_000, 20_000, 10_000, 5_000, 2_000, 1_000} {
		text := markdown(t, r, diff.MarkdownOptions{Limit: limit, FullURL: "https://ci.example/1"})
		checkMarkdown(t, text)

		if len(text) > limit || len(text) > before {
			t.Errorf("limit %d: %d bytes", limit, len(text))
		}

		if left := strings.Contains(text, "✂️"); left != (limit < len(whole)) || left && !strings.Contains(text, "[full plan](<https://ci.example/1>)") {
			t.Errorf("limit %d: what is left out is not said", limit)
		}

		if limit > 2_000 && limit < 60_000 && len(text) < limit*8/10 {
			t.Errorf("limit %d: only %d bytes are used", limit, len(text))
		}

		before = len(text)
	}

	var out bytes.Buffer
	if err := diff.WriteMarkdown(&out, r, diff.MarkdownOptions{Limit: 50}); err == nil {
		t.Errorf("a limit of 50: %s", out.String())
	}
}

// One huge diff does not cost the others theirs.
func TestMarkdown_LargestIsCutFirst(t *testing.T) {
	big := patches("big", "machine:\n  sysctls:\n"+strings.Repeat("    a: \"b\"\n", 1))
	for i := range 4000 {
		big += fmt.Sprintf("          key-%05d: \"value\"\n", i)
	}

	after := files{"a.yaml": tmpl{name: "a", cluster: big}.String(), "b.yaml": tmpl{name: "b", kubernetes: "v1.35.0", controlPlanes: []int{6}, machines: []int{7}}.String()}
	before := files{"a.yaml": tmpl{name: "a"}.String(), "b.yaml": tmpl{name: "b", controlPlanes: []int{6}, machines: []int{7}}.String()}
	text := markdown(t, scenario{before: before, after: after}.report(t), diff.MarkdownOptions{})

	if !strings.Contains(text, "-  kubernetesversion: 1.34.3\n+  kubernetesversion: 1.35.0\n") || strings.Count(text, "✂️") != 1 || !strings.Contains(text, "key-00900") {
		t.Errorf("%d bytes, %d notes", len(text), strings.Count(text, "✂️"))
	}
}

func TestMarker(t *testing.T) {
	for name, want := range map[string]string{
		"": "default", "fleet": "fleet", "a --> b": "a - b", "x\n<b>": "x-b", "---": "", "prod/eu_1": "prod/eu_1",
	} {
		if got := diff.Marker(name); got != "<!-- omni-syncd:plan:"+want+" -->" {
			t.Errorf("%q: %s", name, got)
		}
	}
}

// Two reports with names that look alike to the marker would share a comment.
func TestMarkdown_NothingToSay(t *testing.T) {
	r := &diff.Report{}
	if text := markdown(t, r, diff.MarkdownOptions{Footer: "by *us*"}); text != "<!-- omni-syncd:plan:default -->\n### ⚪ No difference in 0 targets\n\n\n<sub>by *us*</sub>\n" {
		t.Errorf("%q", text)
	}
}

// The findings of a report are where its resources are described.
func TestReport_Findings(t *testing.T) {
	for name, want := range map[string]string{
		"conflict": "conflict error clusters/one.yaml:14:7", "workers-removed": "destructive-change warning clusters/one.yaml:14:7", "cluster-removed": "destructive-change warning ",
	} {
		var got []string
		for _, f := range scenarios()[name].report(t).Findings() {
			got = append(got, f.Rule+" "+string(f.Level)+" "+f.At())
		}

		if len(got) != 1 || got[0] != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// Each way to write text holds by itself, wherever it is used.
func TestMarkdown_Escapes(t *testing.T) {
	for _, test := range []struct{ got, want string }{
		{diff.Prose("a|b @me #1 \n# x"), "a\\|b &#64;\u200bme &#35;\u200b1  &#35;\u200b x"},
		{diff.Prose("<b>&amp;"), "&#60;b&#62;&#38;\u200bamp;"},
		{diff.Prose("see http://x or www.x"), "see http:\u200b//x or www\u200b.x"},
		{diff.Code("a``b\n`"), "``` a``b ` ```"},
		{diff.Code("a|b"), "`a|b`"},
		{diff.Code("\n"), "` `"},
		{diff.Tag("<a>@b`"), "<code>&lt;a&gt;&#64;b&#96;</code>"},
		{diff.Block("diff", "  ```\n````x\r\n\x1b"), "`````diff\n  ```\n````x\uFFFD\n\uFFFD\n`````\n"},
		{diff.Block("", "a\n"), "```\na\n```\n"},
	} {
		if test.got != test.want {
			t.Errorf("got %q, want %q", test.got, test.want)
		}
	}
}

func TestOneLine(t *testing.T) {
	if got := diff.OneLine("a\r\nb\x1b[1mc\u202Ed\xff"); got != "a  b\uFFFD[1mc\uFFFDd\uFFFD" {
		t.Errorf("%q", got)
	}
}
