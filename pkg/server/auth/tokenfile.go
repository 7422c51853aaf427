package auth

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// Bounds of the token file (G12).
const (
	// MaxTokenFile is how large it may be, in bytes.
	MaxTokenFile = 1 << 20
	// MaxTokens is how many tokens it may hold.
	MaxTokens = 1000
)

// parseTokens reads a token file. It is taken apart by hand: a decoder quotes in its
// errors what it did not understand, and that could be a token. What is left empty is an error
// everywhere, because to leave out `clusters` or `expires` grants more.
func parseTokens(data []byte) (map[digest]*Token, error) {
	if len(data) > MaxTokenFile {
		return nil, fmt.Errorf("it is larger than %d bytes", MaxTokenFile)
	}

	decoder := yaml.NewDecoder(bytes.NewReader(data))

	var document yaml.Node

	switch err := decoder.Decode(&document); {
	case errors.Is(err, io.EOF):
		return nil, errors.New("it is empty: write `tokens: []` if there are to be no tokens")
	case err != nil:
		return nil, fmt.Errorf("it is no YAML: %s", quoted.ReplaceAllString(err.Error(), "…"))
	}

	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is something after the end of the first YAML document: keep all tokens in one")
	}

	tokens := map[digest]*Token{}
	names := map[string]bool{}

	err := readFields(document.Content[0], map[string]field{"tokens": required(func(node *yaml.Node) error {
		return readItems(node, MaxTokens, func(node *yaml.Node) error {
			token, sum, err := readToken(node)

			switch {
			case err != nil:
				return err
			case names[token.Name]:
				return at(node, fmt.Errorf("there are two tokens with the name %s: each needs its own", token.Name))
			case tokens[sum] != nil:
				return at(node, fmt.Errorf("the tokens %s and %s have the same hash: make a new token for one of them", tokens[sum].Name, token.Name))
			}

			names[token.Name], tokens[sum] = true, token

			return nil
		})
	})})
	if err != nil {
		return nil, err
	}

	return tokens, nil
}

// quoted is what the YAML parser quotes of the file.
var quoted = regexp.MustCompile("['`\"].{3,}['`\"]")

func readToken(node *yaml.Node) (*Token, digest, error) {
	var (
		token Token
		sum   digest
	)

	err := readFields(node, map[string]field{
		"name": required(readText(func(text string) error {
			token.Name = text

			return CheckName(text)
		})),
		"hash": required(readText(func(text string) (err error) {
			token.Hash = text
			sum, err = parseHash(text)

			return err
		})),
		"expires": optional(readText(func(text string) (err error) {
			token.Expires, err = time.Parse(time.RFC3339, text)
			if err != nil || token.Expires.IsZero() {
				return errors.New("it expires at no time: write it like 2027-01-31T00:00:00Z")
			}

			return nil
		})),
		"grants": required(func(node *yaml.Node) error {
			if len(node.Content) == 0 {
				return at(node, errors.New("the token has no grants, so it is good for nothing: add one, or remove the token"))
			}

			return readItems(node, MaxGrants, func(node *yaml.Node) error {
				grant, err := readGrant(node)
				token.Grants = append(token.Grants, grant)

				return err
			})
		}),
	})

	return &token, sum, err
}

func readGrant(node *yaml.Node) (Grant, error) {
	var grant Grant

	err := readFields(node, map[string]field{
		"role": required(readText(func(text string) error {
			grant.Role = Role(text)

			return Grant{Role: grant.Role}.Check()
		})),
		"clusters": optional(func(node *yaml.Node) error {
			grant.Clusters = []string{}

			err := readItems(node, MaxGlobs, readText(func(text string) error {
				grant.Clusters = append(grant.Clusters, text)

				return Grant{Role: Viewer, Clusters: []string{text}}.Check()
			}))
			if err != nil {
				return err
			}

			return at(node, Grant{Role: Viewer, Clusters: grant.Clusters}.Check())
		}),
	})

	return grant, err
}

// field is what a key of a mapping means.
type field struct {
	read     func(*yaml.Node) error
	required bool
}

func required(read func(*yaml.Node) error) field { return field{read, true} }
func optional(read func(*yaml.Node) error) field { return field{read, false} }

// readFields reads a mapping that has these keys and no others.
func readFields(node *yaml.Node, fields map[string]field) error {
	keys := strings.Join(slices.Sorted(maps.Keys(fields)), ", ")

	if node.Kind != yaml.MappingNode {
		return at(node, fmt.Errorf("something else stands where keys belong: %s", keys))
	}

	seen := map[string]bool{}

	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]

		known, ok := fields[key.Value]

		switch {
		case key.Kind != yaml.ScalarNode || !ok:
			return at(key, fmt.Errorf("the key%s is unknown here: use %s", shown(key.Value), keys))
		case seen[key.Value]:
			return at(key, fmt.Errorf("`%s` stands there twice", key.Value))
		case value.Kind == yaml.ScalarNode && value.ShortTag() == "!!null":
			return at(key, fmt.Errorf("`%s` has no value: write one, or remove the line", key.Value))
		}

		seen[key.Value] = true

		if err := known.read(value); err != nil {
			return err
		}
	}

	for _, key := range slices.Sorted(maps.Keys(fields)) {
		if fields[key].required && !seen[key] {
			return at(node, fmt.Errorf("`%s` is missing", key))
		}
	}

	return nil
}

// readItems reads a list.
func readItems(node *yaml.Node, most int, read func(*yaml.Node) error) error {
	switch {
	case node.Kind != yaml.SequenceNode:
		return at(node, errors.New("a list belongs here"))
	case len(node.Content) > most:
		return at(node, fmt.Errorf("the list has %d items, at most %d are taken", len(node.Content), most))
	}

	for _, item := range node.Content {
		if err := read(item); err != nil {
			return err
		}
	}

	return nil
}

// readText reads a plain value. An alias is none: what is granted is to be seen where it
// stands, and a few aliases make a large file of a small one.
func readText(read func(string) error) func(*yaml.Node) error {
	return func(node *yaml.Node) error {
		if node.Kind != yaml.ScalarNode || node.ShortTag() == "!!null" {
			return at(node, errors.New("a text belongs here"))
		}

		return at(node, read(node.Value))
	}
}

// at puts the line in front of an error.
func at(node *yaml.Node, err error) error {
	if err == nil {
		return nil
	}

	return fmt.Errorf("line %d: %w", node.Line, err)
}
