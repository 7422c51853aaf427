package template

import (
	"bytes"
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"gopkg.in/yaml.v3"
)

var (
	patchLine     = regexp.MustCompile(`(?:at |\()line (\d+)`)
	patchKeys     = regexp.MustCompile(`unknown keys: (.*)$`)
	patchOverride = regexp.MustCompile(`^overriding "(.*)" is not allowed`)
	patchElement  = regexp.MustCompile(`^element "(.*)" is not allowed in field "(.*)"`)
	patchPiece    = regexp.MustCompile(`\bline (\d+): `)
	patchSyntax   = regexp.MustCompile(`^decode error: `)
)

// patchProblems says what is wrong with the content of a patch, the entry item of a list, and where inside of it. The
// complaint is what Talos' and Omni's code said of it; they stop at the first thing that they do not like, so each
// document is shown to them again without that. What cannot be found inside of the patch is at the node.
func (t *Template) patchProblems(item, node *yaml.Node, labels []string, complaint string) Problems {
	p := t.patchOf(item, node)

	faults := p.faults()
	if len(faults) == 0 { // it is about the patch as a whole
		faults = p.explain(p.docs, complaint, true)
	}

	if t.hasNewerTalos() && !slices.ContainsFunc(faults, func(f patchFault) bool { return f.newer == "" }) {
		faults = append(faults, p.besidesNewer()...)
	}

	var problems Problems

	for _, fault := range faults {
		words, rule := fault.words, RulePatch
		if fault.newer != "" && t.hasNewerTalos() {
			words, rule = "this omni-syncd knows no Talos document of kind "+fault.newer+": it is handed on as it is, and Omni judges it", RuleNewer
		}

		if !p.ownFile {
			words = strings.Join(append(slices.Clone(labels), words), ": ")
		}

		problem := Problemf(fault.at, "%s", words).Of(rule)
		if p.ownFile {
			problem.Other = positionOf(t.Path, node)
		}

		problems = append(problems, problem)
	}

	return problems
}

// patchFault is one thing that is wrong in a patch.
type patchFault struct {
	at    Position
	words string
	newer string // a document that only a newer Talos may know
}

const (
	// maxPatchRounds is how often a document of a patch is looked at again without what was wrong with it.
	maxPatchRounds = 8

	// maxPatchDocuments is how many documents of a broken patch are looked at one by one.
	maxPatchDocuments = 100
)

// faults looks at every document of a patch by itself.
func (p *patch) faults() []patchFault {
	all := p.keyFaults()
	if len(all) > 0 {
		return all // Talos' decoder would quote them
	}

	for i, doc := range p.docs[:min(len(p.docs), maxPatchDocuments)] {
		text := p.document(i)

		work, err := parse(text)
		if err != nil || len(work) != 1 {
			continue
		}

		for round := range maxPatchRounds {
			err := omni.ValidateConfigPatch(text)
			if err == nil {
				break
			}

			less := false

			for _, c := range flatten(err) {
				complaint := strings.Join(append(c.contexts, c.message), ": ")

				// Omni's own rules are for the first document.
				if i == 0 || !isOmnis(complaint) {
					all = append(all, p.explain([]*yaml.Node{doc}, complaint, round == 0)...)
				}

				less = cut(work[0], complaint) || less
			}

			if !less {
				break
			}

			if text, err = yaml.Marshal(work[0]); err != nil {
				break
			}

			if work, err = parse(text); err != nil || len(work) != 1 {
				break
			}
		}
	}

	return all
}

// keyFaults looks for keys that cannot be keys.
func (p *patch) keyFaults() (all []patchFault) {
	var walk func(n *yaml.Node)

	walk = func(n *yaml.Node) {
		for i, child := range n.Content {
			if n.Kind == yaml.MappingNode && i%2 == 0 {
				if fault, _ := keyFault(child); fault != "" {
					all = append(all, patchFault{at: p.place(child), words: fault})
				}
			}

			walk(child)
		}
	}

	for _, doc := range p.docs {
		walk(doc)
	}

	return all
}

// document returns the text of a document of the patch, on the lines where it is, if it is a text.
func (p *patch) document(i int) []byte {
	if p.data == nil {
		text, _ := yaml.Marshal(p.docs[i]) // what is nil is refused by whom it is shown to

		return text
	}

	lines := Lines(p.data)
	text := bytes.Repeat([]byte("\n"), p.docs[i].Line-1)

	for number := p.docs[i].Line; ; number++ {
		line, ok := lines(number)
		if !ok || number > p.docs[i].Line && (strings.HasPrefix(line, "---") || strings.HasPrefix(line, "...")) {
			return text
		}

		text = append(append(text, line...), '\n')
	}
}

func isOmnis(complaint string) bool {
	return patchOverride.MatchString(complaint) || patchElement.MatchString(complaint)
}

// cut takes what a complaint is about out of a document, and reports whether it could.
func cut(doc *yaml.Node, complaint string) (done bool) {
	if m := patchKeys.FindStringSubmatch(complaint); m != nil {
		for name := range strings.SplitSeq(m[1], ", ") {
			done = cutNodes(doc, keysAt([]*yaml.Node{doc}, name)) || done
		}

		return done
	}

	for _, expression := range []*regexp.Regexp{patchOverride, patchElement} {
		if m := expression.FindStringSubmatch(complaint); m != nil {
			return cutNodes(doc, keysAt([]*yaml.Node{doc}, m[len(m)-1]))
		}
	}

	for _, piece := range decodingPieces(complaint) {
		done = cutNodes(doc, keysOn(doc, piece.line)) || done
	}

	return done
}

// decodingPiece is what a decoder says of a line.
type decodingPiece struct {
	line  int
	words string
}

// decodingPieces takes apart what a decoder says of several lines at once; nil if a complaint is nothing of that kind.
func decodingPieces(complaint string) (pieces []decodingPiece) {
	at := decoderWords.FindStringIndex(complaint)
	if at == nil {
		return nil
	}

	complaint = complaint[at[1]:]
	marks := patchPiece.FindAllStringSubmatchIndex(complaint, -1)

	for i, m := range marks {
		end := len(complaint)
		if i+1 < len(marks) {
			end = marks[i+1][0]
		}

		line, _ := strconv.Atoi(complaint[m[2]:m[3]])
		said := strings.TrimSpace(complaint[m[1]:end])
		words, rule := inWords(said)

		switch {
		case rule == RuleDuplicate:
			words += ": remove one of them"
		case !wrongType.MatchString(withoutValues(said)):
			words = "Talos cannot read this value: correct it" // its own words may hold the value, and that may be secret
		}

		pieces = append(pieces, decodingPiece{line, words})
	}

	return pieces
}

// keysOn returns the keys on a line.
func keysOn(n *yaml.Node, line int) (keys []*yaml.Node) {
	for i, child := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 && child.Line == line {
			keys = append(keys, child)
		}

		keys = append(keys, keysOn(child, line)...)
	}

	return keys
}

// cutNodes takes keys and their values out of a document.
func cutNodes(n *yaml.Node, keys []*yaml.Node) (done bool) {
	for i := 0; i < len(n.Content); i++ {
		if n.Kind == yaml.MappingNode && i%2 == 0 && slices.Contains(keys, n.Content[i]) {
			n.Content = slices.Delete(n.Content, i, i+2)
			done = true
			i--

			continue
		}

		done = cutNodes(n.Content[i], keys) || done
	}

	return done
}

// explain takes a complaint about documents of a patch apart. Lines in it are those of the patch if it is said of its text
// as it is written.
func (p *patch) explain(docs []*yaml.Node, complaint string, asWritten bool) (faults []patchFault) {
	say := func(at Position, words string) { faults = append(faults, patchFault{at: at, words: words}) }

	if m := patchKeys.FindStringSubmatch(complaint); m != nil {
		for name := range strings.SplitSeq(m[1], ", ") {
			words := "unknown key " + name + " in a Talos config patch" + talosKey(name)

			found := keysAt(docs, name)
			for _, n := range found {
				say(p.place(n), words)
			}

			if len(found) == 0 {
				say(p.start, words)
			}
		}

		return faults
	}

	if m := patchOverride.FindStringSubmatch(complaint); m != nil {
		say(p.first(keysAt(docs, m[1])), m[1]+" cannot be set in a config patch, Omni sets it: remove it")

		return faults
	}

	if m := patchElement.FindStringSubmatch(complaint); m != nil {
		say(p.first(keysAt(docs, m[2])), strconv.Quote(m[1])+" cannot be an element of "+m[2]+" in a config patch: remove it")

		return faults
	}

	if pieces := decodingPieces(complaint); pieces != nil {
		if !asWritten {
			return nil // there is no telling where; it is told once the others are corrected
		}

		for _, piece := range pieces {
			say(p.line(piece.line), piece.words)
		}

		return faults
	}

	if !asWritten {
		return nil // it is about what is left
	}

	if patchSyntax.MatchString(complaint) && p.data != nil {
		line, column, message := syntaxError(p.data, errors.New(complaint))
		say(p.shift(line, column), "this patch is not valid YAML: "+message)

		return faults
	}

	at := p.start
	if m := patchLine.FindStringSubmatch(complaint); m != nil && p.data != nil && asWritten {
		line, _ := strconv.Atoi(m[1])
		at = p.line(line)
	} else if p.data == nil && len(docs) == 1 {
		at = p.place(docs[0])
	}

	if m := unregistered.FindStringSubmatch(complaint); m != nil {
		say(at, "this omni-syncd (Talos "+firstNewerTalos+") knows no document of kind "+m[1]+" in "+m[2]+": correct its kind or apiVersion; if a newer Talos has it, update omni-syncd")
		faults[len(faults)-1].newer = m[1] + " in " + m[2]

		return faults
	}

	say(at, patchWords(withoutValues(complaint)))

	return faults
}

var unregistered = regexp.MustCompile(`: "([^"]*)" "([^"]*)": not registered$`)

var patchAdvice = []struct {
	*regexp.Regexp
	words string
}{
	{regexp.MustCompile(`^config not found$`), "this patch is empty: write a Talos config patch into it, or remove it"},
	{regexp.MustCompile(`: missing kind$`), "this is no Talos config patch: it needs machine or cluster at the top, or an apiVersion and a kind"},
	{regexp.MustCompile(`: missing apiVersion$`), "this document of a Talos config patch has a kind and no apiVersion: add apiVersion: v1alpha1"},
	{regexp.MustCompile(`^duplicate document /v1alpha1/ is not allowed \(line (\d+)\)$`), "two documents of this patch are Talos' main one (the second in line $1): make one of them"},
	{regexp.MustCompile(`^duplicate document (\S+) is not allowed \(line (\d+)\)$`), "two documents of this patch are $1 (the second in line $2): make one of them"},
	{regexp.MustCompile(`^expected a (?:YAML )?document at line (\d+)$`), "a Talos config patch is a mapping, and line $1 holds none: write machine or cluster at the top"},
}

// patchWords says a complaint about a patch in words that end in what to do, if it is known.
func patchWords(message string) string {
	for _, a := range patchAdvice {
		if m := a.FindStringSubmatchIndex(message); m != nil {
			return string(a.ExpandString(nil, a.words, message, m))
		}
	}

	return message
}
