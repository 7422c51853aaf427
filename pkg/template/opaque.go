package template

import (
	"bytes"
	"regexp"
	"unicode/utf8"
)

// A file that nobody can read may be what became of a template that is not where it was: renamed and encrypted, or renamed
// and cut off. It is no problem by itself, since a repository holds much that is not for us, but while it is there nobody
// knows that such a template left Git (G2).

var (
	// readable matches a line of YAML that holds something: a key, an element of a list, or JSON.
	readable = regexp.MustCompile(`(?m)^\s*(["']?[^#\s"'][^\n]*?["']?[ \t]*:([ \t\r]|$)|-([ \t\r]|$)|[{\[#%]|---([ \t\r]|$))`)
	// placeholder is what makes YAML of a text that is none yet, as in a Helm chart. Its author knows what it is.
	placeholder = []byte("{{")
)

// isOpaque reports whether a file that says nothing of clusters may do so all the same: it holds nothing, bytes that are no
// text, or a text that is no YAML.
func isOpaque(data []byte) bool {
	data = bytes.TrimSpace(data)

	return len(data) == 0 || bytes.IndexByte(data, 0) >= 0 || !utf8.Valid(data) || !readable.Match(data)
}

// unparsed reports the same of a text that is no valid YAML.
func unparsed(data []byte) bool { return !bytes.Contains(data, placeholder) }
