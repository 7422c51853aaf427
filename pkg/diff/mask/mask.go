// Package mask takes the secrets out of what a plan shows.
//
// It belongs to the fourth stage of the flow
//
//	source → template → render → [diff] → sync → omni
//
// [New] takes both versions of a resource and returns copies in which every secret is replaced by a marker. A marker
// says nothing about the secret: it is a random number of this comparison and a count. Equal secrets have equal markers,
// so a text diff of the copies finds exactly the lines that a diff of the originals would find. [Pair.Diff] and
// [Pair.Old], [Pair.New] then put words in the place of the markers: "(secret)", "(secret, changed)".
//
// What is secret is decided by where a value stands in its structure: the rules are in rules.go, and a golden file
// in testdata lists what they say of every field of a Talos machine configuration. Where the structure is unknown, the
// name of the key decides (names.go), and what looks like a private key, a token or a URL with a password is
// taken out wherever it stands (shapes.go). A text that should be YAML and cannot be read is secret as a whole.
//
// Everything else stays byte for byte: a text is edited in place, not written anew.
package mask

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/cosi-project/runtime/pkg/resource"
)

// Options says what is masked. The zero value masks all that is known to be secret.
type Options struct {
	// Show turns masking off.
	Show bool
	// Declared are further keys whose values are secret: the name of a key ("licenseKey"), or a path from the root of a
	// document or resource with "/" between keys ("machine/sysctls/*", "**/vault/*"). A "*" stands for part of a key or an
	// element of a list, "**" for any number of keys, "~1" for a "/" in a key, as in a JSON Pointer. Case matters.
	Declared []string
}

// Validate says which of the declared paths cannot be read.
func (o Options) Validate() error {
	_, err := compile(o.Declared)

	return err
}

// Pair is two versions of one resource, made fit to be shown.
type Pair struct {
	// Old and New are copies with markers in the place of secrets; nil where the original is nil. With Options.Show they
	// are the originals. They are for comparison only: a text made from them goes through [Pair.Diff] or [Pair.Words].
	Old, New resource.Resource

	*markers
}

// New masks two versions of a resource; either may be nil. The error is one of reading the resource and holds nothing of its
// contents.
func New(before, after resource.Resource, o Options) (*Pair, error) {
	return pair(before, after, o, (*masker).resource)
}

// Metadata is [New] for two versions whose specs are equal: the copies have none, and no time is spent on it.
func Metadata(before, after resource.Resource, o Options) (*Pair, error) {
	return pair(before, after, o, (*masker).metadata)
}

func pair(before, after resource.Resource, o Options, masked func(*masker, resource.Resource) (resource.Resource, error)) (*Pair, error) {
	if o.Show {
		return &Pair{Old: before, New: after}, nil
	}

	declared, err := compile(o.Declared)
	if err != nil {
		return nil, err
	}

	p := &Pair{markers: newMarkers()}

	if p.Old, err = masked(&masker{markers: p.markers, side: sideOld, declared: declared}, before); err != nil {
		return nil, err
	}

	if p.New, err = masked(&masker{markers: p.markers, side: sideNew, declared: declared}, after); err != nil {
		return nil, err
	}

	return p, nil
}

// Text masks one YAML or JSON text that is shown alone, such as a payload in a message.
func Text(text string, o Options) (string, error) {
	if o.Show {
		return text, nil
	}

	declared, err := compile(o.Declared)
	if err != nil {
		return "", err
	}

	m := &masker{markers: newMarkers(), side: sideOld, declared: declared}

	return (&Pair{markers: m.markers}).Words(m.payload(text, nil)), nil
}

// unknownKeys is how Talos begins the list of the keys that it does not know, with their values: a slip in the name
// of a secret is enough for the secret to be in the error.
const unknownKeys = "unknown keys found during decoding:"

// Message masks an error of Talos or Omni, which may quote a patch. Of keys that Talos does not know no value is shown.
func Message(text string) string {
	m := &masker{markers: newMarkers(), side: sideOld}

	about, quoted, found := strings.Cut(text, unknownKeys)
	about = m.apply(about, append(free(about), quotes(about)...))

	if found {
		m.all = true
		about += unknownKeys + m.payload(quoted, nil)
	}

	return (&Pair{markers: m.markers}).Words(about)
}

// quotedValues are the values that decoders put into their errors: cannot construct !!str `hunter2` into int; parse "...": invalid URL.
var quotedValues = []*regexp.Regexp{
	regexp.MustCompile("(?ms)!![\\w:./-]*[ \\t]+([`\"'].*?[`\"'])(?: into\\b|[ \\t]*[,;:)]|[ \\t]*$)"),
	regexp.MustCompile("(?i)\\b\\w*pars(?:e|ing)\\w*\\b[^\"'`\\n]{0,80}(\"(?:[^\"\\\\\\n]|\\\\.)*\"|`[^`]*`|'[^'\\n]*')"),
	regexp.MustCompile("(?i)\\b(?:invalid (?:\\w+ )?|illegal [^\"'`\\n]{0,80})(\"(?:[^\"\\\\\\n]|\\\\.)*\"|`[^`]*`)"),
}

// quotes finds them in a message, the quotes left out.
func quotes(text string) []span {
	var found []span

	for _, pattern := range quotedValues {
		for _, at := range pattern.FindAllStringSubmatchIndex(text, -1) {
			if start, end := at[2]+1, at[3]-1; start < end {
				found = append(found, span{start: start, end: end})
			}
		}
	}

	return found
}

type side int

const (
	sideOld side = iota
	sideNew
)

// markers numbers the secrets of one comparison.
type markers struct {
	nonce   string // random, so that no text can hold a marker by intent or accident
	pattern *regexp.Regexp
	escaped *regexp.Regexp
	ids     map[secret]int
	secrets []secret
	// at holds which values stood where, on either side: by that a new value is told from a changed one. Lists
	// count as one place, since elements move.
	at map[string]*place
	// places of each secret on the new side.
	places map[int][]string
}

// secret is what one marker stands for. Two spellings of one value are two secrets, since their lines differ.
type secret struct {
	raw, value string
	unreadable bool
}

type place struct{ values [2]map[string]bool }

func newMarkers() *markers {
	var random [8]byte

	_, _ = rand.Read(random[:]) // never fails: it crashes the program instead

	nonce := hex.EncodeToString(random[:])

	return &markers{
		nonce:   nonce,
		pattern: regexp.MustCompile(`\(secret-` + nonce + `-(\d{6,})\)`),
		escaped: regexp.MustCompile(regexp.QuoteMeta(escape("(secret-"+nonce+"-")) + `(?:\\x3[0-9]){6,}\\x29`),
		ids:     map[secret]int{},
		at:      map[string]*place{},
		places:  map[int][]string{},
	}
}

// marker returns what stands for a secret found at a path. All are of one length, so that none moves a line break.
func (m *markers) marker(on side, s secret, path string) string {
	id, known := m.ids[s]
	if !known {
		id = len(m.secrets)
		m.ids[s] = id
		m.secrets = append(m.secrets, s)
	}

	at := m.at[path]
	if at == nil {
		at = &place{[2]map[string]bool{{}, {}}}
		m.at[path] = at
	}

	at.values[on][s.value] = true

	if on == sideNew {
		m.places[id] = append(m.places[id], path)
	}

	return fmt.Sprintf("(secret-%s-%06d)", m.nonce, id)
}

// changed reports whether a secret of the new side takes the place of another one, which is gone. Of an element of
// a list that cannot be said: the others have moved.
func (m *markers) changed(id int) bool {
	for _, path := range m.places[id] {
		if strings.Contains(path, index) || strings.HasSuffix(path, comment) {
			continue
		}

		at := m.at[path]
		if at.values[sideOld][m.secrets[id].value] {
			continue
		}

		for value := range at.values[sideOld] {
			if !at.values[sideNew][value] {
				return true
			}
		}
	}

	return false
}

// The words that people read in the place of a secret.
const (
	word        = "(secret)"
	wordChanged = "(secret, changed)"
	// wordRespelled is for a value that is the same and was put in other quotes, say.
	wordRespelled = "(secret, written differently)"

	unreadable        = "(secret: cannot be read as YAML, not shown)"
	unreadableChanged = "(secret: cannot be read as YAML, not shown, changed)"
)

// replace puts words for markers; how gives the word for the n-th marker of the text.
func (m *markers) replace(text string, how func(n, id int) string) string {
	n := -1

	return m.pattern.ReplaceAllStringFunc(text, func(marker string) string {
		n++

		id, err := strconv.Atoi(marker[len("(secret-")+len(m.nonce)+1 : len(marker)-1])
		if err != nil || id >= len(m.secrets) {
			return word
		}

		return how(n, id)
	})
}

func (m *markers) plain(_, id int) string {
	if m.secrets[id].unreadable {
		return unreadable
	}

	return word
}

// Words puts "(secret)" for every marker in a text made from either copy.
func (p *Pair) Words(text string) string {
	if p.markers == nil {
		return text
	}

	return p.replace(text, p.plain)
}

// Values puts words for the markers in the old and the new value of one field. Two values that differ read differently.
func (p *Pair) Values(before, after string) (string, string) {
	if p.markers == nil {
		return before, after
	}

	removed := map[string][][]int{}
	if ids := p.idsIn(before); len(ids) > 0 {
		removed[head(after)] = [][]int{ids}
	}

	return p.Words(before), p.against(after, removed)
}
