package template

import (
	"errors"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/go-multierror"
	"gopkg.in/yaml.v3"
)

// complaint is one leaf of a tree of errors: what is wrong, and the words that wrap it on the way down.
type complaint struct {
	contexts []string
	message  string
}

// flatten takes an error apart into its leaves. Upstream nests multierrors and joined errors inside wrapped ones, and
// their own way to print that is a staircase of bullets.
func flatten(err error, contexts ...string) []complaint {
	if multi, ok := err.(*multierror.Error); ok { // this level, not one further down
		return flattenAll(multi.Errors, contexts)
	}

	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return flattenAll(joined.Unwrap(), contexts)
	}

	if inner := errors.Unwrap(err); inner != nil {
		// Upstream wraps at the end of the message throughout. Anything else is a leaf.
		if context, ok := strings.CutSuffix(err.Error(), inner.Error()); ok {
			if context = strings.TrimSuffix(strings.TrimSpace(context), ":"); context != "" {
				contexts = append(contexts[:len(contexts):len(contexts)], oneLine(context))
			}

			return flatten(inner, contexts...)
		}
	}

	return []complaint{{contexts, plainWords(err.Error())}}
}

func flattenAll(errs []error, contexts []string) []complaint {
	var all []complaint

	for _, err := range errs {
		if err != nil {
			all = append(all, flatten(err, contexts...)...)
		}
	}

	return all
}

var (
	bullets     = regexp.MustCompile(`\d+ errors? occurred:\s*(\* )?|\n\s*\* `)
	quotedValue = regexp.MustCompile("(!![a-z]+) `[^`]*`")

	quotedKey    = regexp.MustCompile(`(?s)(?:cannot use '|invalid map key: ).*`)
	decoderWords = regexp.MustCompile(`(construct|unmarshal) errors:`)
)

const unknownKeys = "unknown keys found during decoding:"

// plainWords makes one line of a message, even of one that has a printed multierror in it. Of keys that upstream does
// not know it leaves the names only: upstream prints their values too, a patch may hold a password, and messages end
// up in logs.
func plainWords(message string) string {
	if before, after, ok := strings.Cut(message, unknownKeys); ok {
		message = strings.TrimSuffix(before+"unknown keys: "+keyPaths(after), ": ")
	}

	message = quotedKey.ReplaceAllString(message, "a mapping or a list cannot be a key: write a text")

	return oneLine(bullets.ReplaceAllStringFunc(message, func(match string) string {
		if strings.HasPrefix(match, "\n") {
			return "; "
		}

		return ""
	}))
}

// withoutValues takes the values out of what a decoder says.
func withoutValues(message string) string {
	message = quotedValue.ReplaceAllString(message, "$1")

	if at := decoderWords.FindStringIndex(message); at != nil {
		message = message[:at[1]] + quotedWord.ReplaceAllString(message[at[1]:], "a value")
	}

	return message
}

// keyPaths lists the keys of a YAML text, without their values.
func keyPaths(text string) string {
	docs, err := parse([]byte(text))
	if err != nil {
		return ""
	}

	var paths []string

	var walk func(n *yaml.Node, path string, depth int)

	walk = func(n *yaml.Node, path string, depth int) {
		switch {
		case len(n.Content) == 0 || depth == MaxDepth:
			paths = append(paths, path)
		case n.Kind == yaml.MappingNode:
			for i := 0; i+1 < len(n.Content); i += 2 {
				walk(n.Content[i+1], strings.TrimPrefix(path+"."+n.Content[i].Value, "."), depth+1)
			}
		default:
			for _, item := range n.Content {
				walk(item, path, depth+1)
			}
		}
	}

	for _, doc := range docs {
		walk(doc, "", 0)
	}

	slices.Sort(paths)

	return strings.Join(slices.Compact(paths), ", ")
}

// PlainWords is the message of an error of upstream's decoders on one line, without the values that were decoded:
// those may be secret, and messages end up in logs.
func PlainWords(err error) string { return withoutValues(plainWords(err.Error())) }
