package report_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/text/width"

	"github.com/omni-syncd/omni-syncd/pkg/report"
)

// examples are findings of every kind: with and without a place, of every level, two that read the same, and those of a
// repository that would like to forge something.
var examples = []report.Finding{
	{Rule: "unknown-key", Level: report.Error, Message: "unknown field kuberntes in Cluster: did you mean kubernetes?", File: "clusters/a.yaml", Line: 3, Column: 1},
	{Rule: "unknown-key", Level: report.Error, Message: "unknown field inlin in Patch: did you mean inline?", File: "clusters/a.yaml", Line: 9, Column: 5},
	{Rule: "unknown-key", Level: report.Error, Message: "unknown field inlin in Patch: did you mean inline?", File: "clusters/a.yaml", Line: 11, Column: 5},
	{Rule: "duplicate", Level: report.Error, Message: `cluster "a" is also defined at b.yaml:2:7: remove one of them`, File: "clusters/a.yaml", Line: 2, Column: 7},
	{Rule: "unreadable-source", Level: report.Error, Message: "more than 100000 files and folders"},
	{Rule: "yaml-syntax", Level: report.Error, Message: "this looks like a cluster template", File: "clusters/utf16.yaml"},
	{Rule: "reboot", Level: report.Warning, Message: "2 machines reboot", File: "clusters/a.yaml", Line: 4, Target: "a"},
	{Rule: "adopted", Level: report.Note, Message: "100% adopted", File: "clusters/ä b.yaml", Line: 1, Column: 1, Target: "b"},
	{Rule: "forged", Level: report.Error, Message: "x\n::error file=y::z\r\x1b[2Jx ##[add-mask]m ###[group]g \u202ey\x9b31m", File: "::stop-commands::x\n::error ::,y:%0A\x7f.yaml", Line: 1, Column: 2},
	{Rule: "forged", Level: report.Error, Message: "  ::warning::a message of nowhere"},
}

// lines are what the files of the examples hold.
func lines(file string, line int) (string, bool) {
	text := map[int]string{
		1: "\tname: \x1b[31m\u202ered", 2: "name: 世界", 3: "kuberntes:", 4: "talos: {}", 9: strings.Repeat("long ", 100), 11: "  - inlin: x",
	}[line]

	return text, file != "clusters/b.yaml" && text != ""
}

func TestFormats(t *testing.T) {
	for name, write := range map[string]func(io.Writer, []report.Finding) error{
		"text": func(w io.Writer, f []report.Finding) error { return report.WriteText(w, f, report.TextOptions{}) },
		"terminal": func(w io.Writer, f []report.Finding) error {
			return report.WriteText(w, f, report.TextOptions{Color: true, Line: lines, Width: 60})
		},
		"github": report.WriteGitHub, "gitlab": report.WriteGitLab, "json": report.WriteJSON,
	} {
		t.Run(name, func(t *testing.T) {
			var out, empty bytes.Buffer
			if err := errors.Join(write(&out, examples), write(&empty, nil)); err != nil {
				t.Fatal(err)
			}

			out.WriteString("--- none ---\n" + empty.String())
			golden(t, name, out.Bytes())
		})
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()

	file := filepath.Join("testdata", "formats", name+".golden")

	if *update {
		if err := os.WriteFile(file, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}

	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}

	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("run with -update if this is right (-want +got):\n%s", diff)
	}
}

// TestFingerprints: a finding that moves stays the same, and no two of a report are.
func TestFingerprints(t *testing.T) {
	prints := func(findings []report.Finding) (all []string) {
		var out bytes.Buffer
		if err := report.WriteGitLab(&out, findings); err != nil {
			t.Fatal(err)
		}

		var issues []struct{ Fingerprint string }
		if err := json.Unmarshal(out.Bytes(), &issues); err != nil {
			t.Fatal(err)
		}

		seen := map[string]bool{}
		for _, issue := range issues {
			if all = append(all, issue.Fingerprint); seen[issue.Fingerprint] {
				t.Errorf("%s is there twice", issue.Fingerprint)
			}

			seen[issue.Fingerprint] = true
		}

		return all
	}

	moved := append([]report.Finding(nil), examples...)
	for i := range moved {
		if moved[i].Line > 0 {
			moved[i].Line += 7
		}

		moved[i].Message = strings.ReplaceAll(moved[i].Message, ":2:7", ":9:7")
	}

	if diff := cmp.Diff(prints(examples), prints(moved)); diff != "" {
		t.Error(diff)
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("disk full") }

// TestWriteErrors: what could not be written is not passed over.
func TestWriteErrors(t *testing.T) {
	for name, err := range map[string]error{
		"text":   report.WriteText(failing{}, examples, report.TextOptions{}),
		"github": report.WriteGitHub(failing{}, examples), "gitlab": report.WriteGitLab(failing{}, examples), "json": report.WriteJSON(failing{}, examples),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// FuzzGitHub: whatever is in a name or a message, there is one command, and the runner reads from it what went in.
func FuzzGitHub(f *testing.F) {
	for _, finding := range examples {
		f.Add(finding.File, finding.Rule, finding.Message)
	}

	f.Fuzz(func(t *testing.T, file, rule, message string) {
		var out bytes.Buffer
		if err := report.WriteGitHub(&out, []report.Finding{{File: file, Rule: rule, Message: message, Line: 1}}); err != nil {
			t.Fatal(err)
		}

		text, ok := strings.CutSuffix(out.String(), "\n")
		if !ok || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) || !utf8.ValidString(text) {
			t.Fatalf("not one printable line: %q", out.String())
		}

		// As the runner takes it apart: at the first :: after the name, then at commas.
		properties, data, _ := strings.Cut(strings.TrimPrefix(text, "::error "), "::")
		decode := strings.NewReplacer("%25", "%", "%0D", "\r", "%0A", "\n", "%3A", ":", "%2C", ",").Replace
		// What cannot be shown is replaced, and line breaks come through.
		shown := func(s string) string {
			return strings.Map(func(r rune) rune {
				if unicode.IsPrint(r) || r == '\r' || r == '\n' {
					return r
				}

				return unicode.ReplacementChar
			}, s)
		}

		want := map[string]string{"title": "omni-syncd"}
		if rule != "" {
			want["title"] = shown("omni-syncd " + rule)
		}

		if file != "" {
			want["file"], want["line"] = shown(file), "1"
		}

		got := map[string]string{}
		for property := range strings.SplitSeq(properties, ",") {
			key, value, _ := strings.Cut(property, "=")
			got[key] = decode(value)
		}

		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}

		if got := strings.NewReplacer("%25", "%", "%0D", "\r", "%0A", "\n").Replace(data); got != shown(message) {
			t.Errorf("the message is %q, want %q", got, message)
		}
	})
}

// FuzzText: whatever is in a name, a message or a line, no cursor moves, no command of a CI service appears, the excerpt
// fits, and the caret is inside of it.
func FuzzText(f *testing.F) {
	for _, finding := range examples {
		f.Add(finding.File, finding.Message, "a\tb\u0301c 世界 \x1b[2J", 5, 40)
	}

	f.Add("a", "b", strings.Repeat("世\u0301", 500), 300, 30)
	f.Add("a", "b", "\u0301\u0301", 2, 0)
	f.Add("a", "b", strings.Repeat("\t", 100), 100, 30)

	f.Fuzz(func(t *testing.T, file, message, line string, column, columns int) {
		const gutter = "  7 | "

		finding := report.Finding{File: file, Message: message, Line: 7, Column: column}

		var out bytes.Buffer

		opts := report.TextOptions{Line: func(string, int) (string, bool) { return line, true }, Width: columns}
		if err := report.WriteText(&out, []report.Finding{finding}, opts); err != nil {
			t.Fatal(err)
		}

		rows := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")

		for _, row := range rows {
			if strings.ContainsFunc(row, func(r rune) bool { return !unicode.IsPrint(r) }) || !utf8.ValidString(row) {
				t.Fatalf("not printable: %q", row)
			}
		}

		if strings.HasPrefix(strings.TrimSpace(rows[0]), "::") || strings.Contains(rows[0], "##[") {
			t.Errorf("a command: %q", rows[0])
		}

		if want := map[bool]int{true: 3, false: 2}[column > 0]; len(rows) != want {
			t.Fatalf("%d rows, want %d: %q", len(rows), want, rows)
		}

		shown := strings.TrimPrefix(rows[1], gutter)
		if room := max(columns-6, 20); columns > 0 && columnsOf(shown) > room {
			t.Errorf("%d columns, more than %d: %q", columnsOf(shown), room, shown)
		}

		if column > 0 {
			if caret := strings.Index(rows[2], "^") - len(gutter); caret < 0 || caret > columnsOf(shown) {
				t.Errorf("the caret is at %d of %q", caret, shown)
			}
		}
	})
}

// columnsOf counts the columns of a text on a terminal.
func columnsOf(text string) int {
	n := 0

	for _, r := range text {
		switch kind := width.LookupRune(r).Kind(); {
		case unicode.In(r, unicode.Mn, unicode.Me):
		case kind == width.EastAsianWide || kind == width.EastAsianFullwidth:
			n += 2
		default:
			n++
		}
	}

	return n
}

// TestExcerpt puts the caret under the character that is meant.
func TestExcerpt(t *testing.T) {
	for name, tt := range map[string]struct {
		line   string
		column int
		want   string // the line, and the caret below
	}{
		"plain":          {"name: x", 7, "name: x\n      ^"},
		"a tab":          {"\tx", 2, "    x\n    ^"},
		"a tab inside":   {"ab\tx", 4, "ab  x\n    ^"},
		"wide":           {"世界x", 3, "世界x\n    ^"},
		"combining":      {"e\u0301x", 3, "e\u0301x\n ^"},
		"control":        {"\x1bx", 2, "\ufffdx\n ^"},
		"behind the end": {"ab", 99, "ab\n  ^"},
		"cut at the end": {"x" + strings.Repeat("ab", 30), 1, "xabababababababab…\n^"},
		"cut on both":    {strings.Repeat("-", 30) + "X" + strings.Repeat("+", 30), 31, "…-----X+++++++++++…\n      ^"},
		"cut in front":   {strings.Repeat("-", 30) + "X", 31, "…-----X\n      ^"},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer

			opts := report.TextOptions{Line: func(string, int) (string, bool) { return tt.line, true }, Width: 26}
			if err := report.WriteText(&out, []report.Finding{{File: "f", Line: 1, Column: tt.column, Message: "m"}}, opts); err != nil {
				t.Fatal(err)
			}

			rows := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
			got := strings.TrimPrefix(rows[1], "  1 | ") + "\n" + strings.TrimPrefix(rows[2], "    | ")

			if got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}
