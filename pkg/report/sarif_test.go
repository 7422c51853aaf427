package report_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/omni-syncd/omni-syncd/pkg/report"
)

var update = flag.Bool("update", false, "write the golden files anew")

func sarif(tb testing.TB, findings []report.Finding) string {
	tb.Helper()

	var out bytes.Buffer
	if err := report.WriteSARIF(&out, findings, report.SARIFOptions{Version: "1.2.3", Rules: map[string]string{"a": "The rule a"}}); err != nil {
		tb.Fatal(err)
	}

	return out.String()
}

// What a log looks like; it was checked against the schema of OASIS.
func TestSARIF(t *testing.T) {
	got := sarif(t, []report.Finding{
		{Rule: "b", Level: report.Warning, Message: "no place"},
		{Rule: "a", Level: report.Error, Message: "x < y & \"z\"", File: "clusters/a b#1.yaml", Line: 3, Column: 7, Target: "one"},
		{Rule: "a", Level: report.Error, Message: "x < y & \"z\"", File: "clusters/a b#1.yaml", Line: 3, Column: 7, Target: "one"},
		{Rule: "a", Level: report.Note, Message: "the file", File: "z.yaml"},
	})

	path := filepath.Join("testdata", "log.sarif")

	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}

	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

type log struct {
	Runs []struct {
		Results []struct {
			Locations []struct {
				PhysicalLocation struct {
					ArtifactLocation struct{ URI string }
					Region           *struct{ StartLine, StartColumn int }
				}
			}
		}
		Invocations []struct {
			ToolExecutionNotifications []struct{ Message struct{ Text string } }
		}
	}
}

func parse(tb testing.TB, text string) (l log) {
	tb.Helper()

	if err := json.Unmarshal([]byte(text), &l); err != nil {
		tb.Fatal(err)
	}

	return l
}

// No name of a file leads out of the repository or to another host.
func TestSARIF_Files(t *testing.T) {
	for file, want := range map[string]string{
		"a/b.yaml": "a/b.yaml", "../../etc/passwd": "etc/passwd", "//evil.example/x": "evil.example/x", "C:x": "./C:x",
		"https://evil.example/x": "https:/evil.example/x", "ä ?.yaml": "%C3%A4%20%3F.yaml",
	} {
		got := parse(t, sarif(t, []report.Finding{{Rule: "a", Level: report.Note, File: file}})).Runs[0].Results[0].Locations[0].PhysicalLocation.ArtifactLocation.URI
		if file == "https://evil.example/x" {
			want = "./" + want
		}

		if got != want {
			t.Errorf("%s: got %s, want %s", file, got, want)
		}
	}
}

// G12: a log is bounded and says what it leaves out; without findings it is one all the same.
func TestG12_SARIF(t *testing.T) {
	var findings []report.Finding
	for i := range report.MaxResults + 3 {
		findings = append(findings, report.Finding{Rule: "a", Level: report.Error, File: "a", Line: i + 1})
	}

	l := parse(t, sarif(t, findings))
	if notes := l.Runs[0].Invocations[0].ToolExecutionNotifications; len(l.Runs[0].Results) != report.MaxResults || len(notes) != 1 || !strings.HasPrefix(notes[0].Message.Text, "3 more") {
		t.Errorf("%d results, %v", len(l.Runs[0].Results), notes)
	}

	if empty := sarif(t, nil); !strings.Contains(empty, `"results": []`) {
		t.Error(empty)
	}
}

func TestFinding_At(t *testing.T) {
	for want, f := range map[string]report.Finding{
		"": {Line: 3}, "a": {File: "a"}, "a:3": {File: "a", Line: 3}, "a:3:4": {File: "a", Line: 3, Column: 4},
	} {
		if got := f.At(); got != want {
			t.Errorf("%+v: %q", f, got)
		}
	}
}

func ExampleSort() {
	for _, f := range report.Sort([]report.Finding{{File: "b"}, {File: "a", Line: 9}, {File: "a", Line: 2}, {File: "b"}}) {
		fmt.Println(f.At())
	}
	// Output:
	// a:2
	// a:9
	// b
}
