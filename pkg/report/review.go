package report

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// WriteGitHub writes findings, in the order of [Sort], as workflow commands of GitHub Actions: annotations of the lines in a pull
// request. GitHub shows ten of each level for a step.
func WriteGitHub(w io.Writer, findings []Finding) error {
	for _, f := range Sort(slices.Clone(findings)) {
		command := map[Level]string{Warning: "warning", Note: "notice"}[f.Level]
		if command == "" {
			command = "error"
		}

		var properties []string

		if f.File != "" {
			properties = append(properties, "file="+escapeProperty(f.File))

			if f.Line > 0 {
				properties = append(properties, "line="+strconv.Itoa(f.Line))

				if f.Column > 0 {
					properties = append(properties, "col="+strconv.Itoa(f.Column))
				}
			}
		}

		title := "omni-syncd"
		if f.Rule != "" {
			title += " " + f.Rule
		}

		properties = append(properties, "title="+escapeProperty(title))

		if _, err := fmt.Fprintf(w, "::%s %s::%s\n", command, strings.Join(properties, ","), escapeData(f.Message)); err != nil {
			return err
		}
	}

	return nil
}

// The runner takes a line for a command, what is between the colons for properties with commas in between, and decodes
// these five. Anything else that could move a cursor is replaced.
var (
	dataEscapes     = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	propertyEscapes = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
)

func escapeData(text string) string     { return Printable(dataEscapes.Replace(text)) }
func escapeProperty(text string) string { return Printable(propertyEscapes.Replace(text)) }

// WriteGitLab writes findings, in the order of [Sort], as a code quality report of GitLab.
func WriteGitLab(w io.Writer, findings []Finding) error {
	findings = Sort(slices.Clone(findings))
	prints := fingerprints(findings)
	issues := make([]gitLabIssue, len(findings)) // an empty list is a report, too

	for i := range findings {
		f := &findings[i]
		issues[i] = gitLabIssue{
			Description: f.Message, Check: f.Rule, Fingerprint: prints[i],
			Severity: map[Level]string{Warning: "minor", Note: "info"}[f.Level],
		}

		if issues[i].Severity == "" {
			issues[i].Severity = "major"
		}

		// GitLab leaves out what has no place.
		issues[i].Location.Path = f.File
		if f.File == "" {
			issues[i].Location.Path = "."
		}

		issues[i].Location.Lines.Begin = max(f.Line, 1)
	}

	return encode(w, issues)
}

// gitLabIssue is a part of CodeClimate's format. The names in JSON are GitLab's.
type gitLabIssue struct {
	Description string `json:"description"`
	Check       string `json:"check_name"`
	Fingerprint string `json:"fingerprint"`
	Severity    string `json:"severity"`
	Location    struct {
		Path  string `json:"path"`
		Lines struct {
			Begin int `json:"begin"`
		} `json:"lines"`
	} `json:"location"`
}

// JSONVersion is the version of what [WriteJSON] writes. It changes when a reader of it would have to. New keys are no
// reason.
const JSONVersion = 1

// WriteJSON writes findings, in the order of [Sort], for programs: {"version": 1, "findings": [...]}, each with rule, level and message; with file,
// line and column as far as they are known; with cluster if it is about one; and with a fingerprint that stays the same when the finding moves.
func WriteJSON(w io.Writer, findings []Finding) error {
	findings = Sort(slices.Clone(findings))
	prints := fingerprints(findings)
	items := make([]jsonFinding, len(findings))

	for i, f := range findings {
		items[i] = jsonFinding{f.Rule, f.Level, f.File, f.Line, f.Column, f.Target, f.Message, prints[i]}
	}

	return encode(w, struct {
		Version  int           `json:"version"`
		Findings []jsonFinding `json:"findings"`
	}{JSONVersion, items})
}

type jsonFinding struct {
	Rule        string `json:"rule"`
	Level       Level  `json:"level"`
	File        string `json:"file,omitempty"`
	Line        int    `json:"line,omitempty"`
	Column      int    `json:"column,omitempty"`
	Cluster     string `json:"cluster,omitempty"`
	Message     string `json:"message"`
	Fingerprint string `json:"fingerprint"`
}

// places are what a message says of places in files: "a.yaml:3:4", "line 7".
var places = regexp.MustCompile(`:\d+(:\d+)?|\bline \d+`)

// fingerprints returns a text for each finding that stays the same when lines are added above it, and is different from
// all others of the list: of several that read the same in a file, the first is the first.
func fingerprints(findings []Finding) []string {
	prints := make([]string, len(findings))
	times := map[string]int{}

	for i, f := range findings {
		parts := []string{f.Rule, f.File, f.Target, places.ReplaceAllString(f.Message, "")}
		same := strings.Join(parts, "\x00")
		sum := sha256.Sum256(fmt.Appendf(nil, "%q %d", parts, times[same]))
		prints[i] = hex.EncodeToString(sum[:16])
		times[same]++
	}

	return prints
}

func encode(w io.Writer, value any) error {
	var out bytes.Buffer

	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")

	if err := encoder.Encode(value); err != nil {
		return err
	}

	_, err := w.Write(PrintableJSON(out.Bytes()))

	return err
}

// PrintableJSON returns the same JSON with everything that is not printable escaped, such as the control characters
// above ASCII that JSON itself allows: it may be looked at on a terminal.
func PrintableJSON(text []byte) []byte {
	var out bytes.Buffer

	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)

		switch {
		case r == '\n' || unicode.IsPrint(r):
			out.Write(text[:size])
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&out, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&out, `\u%04x`, r)
		}

		text = text[size:]
	}

	return out.Bytes()
}
