package source

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// Bounds on symbolic links: hostile ones could keep us looking for hours.
const (
	// MaxLinks bounds the links seen in one revision. Only folders that are opened
	// count.
	MaxLinks = 10_000
	// maxHops bounds the links followed for one name, as Linux does.
	maxHops = 40
	// maxSteps bounds the parts of all paths walked for one name.
	maxSteps = 1024
	// maxTarget bounds what a link says, as Linux does.
	maxTarget = 4096
)

// resolve returns what a name leads to, links followed.
func (t *tree) resolve(name string) (*node, error) {
	at, err := t.follow(name)
	if err != nil {
		return nil, err
	}

	return at[len(at)-1], nil
}

// follow returns every node from the root to what the name leads to.
func (t *tree) follow(name string) ([]*node, error) {
	var (
		at   = []*node{t.root} // from the root to where we are: ".." goes back
		rest = strings.Split(name, "/")
		hops int
	)

	for steps := 0; len(rest) > 0; steps++ {
		part := rest[0]
		rest = rest[1:]

		switch part {
		case "", ".":
			continue
		case "..": // only from a link's target: fs.ValidPath refuses it in a name
			if len(at) == 1 {
				return nil, errors.New("the symbolic link leaves the tree: refused")
			}

			at = at[:len(at)-1]

			continue
		}

		child, err := t.child(at[len(at)-1], part)
		if err != nil {
			return nil, err
		}

		if child.mode.Type() != fs.ModeSymlink {
			if at = append(at, child); len(at) > MaxDepth {
				return nil, fmt.Errorf("nested deeper than %d folders: refused", MaxDepth)
			}

			continue
		}

		if hops++; hops > maxHops || steps > maxSteps {
			return nil, errors.New("too many symbolic links, probably a loop")
		}

		target, err := t.target(child)
		if err != nil {
			return nil, err
		}

		rest = append(strings.Split(target, "/"), rest...)
	}

	return at, nil
}

func (t *tree) target(link *node) (string, error) {
	data, err := t.bytes(link)
	if err != nil {
		return "", err
	}

	target := string(data)
	if strings.HasPrefix(target, "/") {
		return "", fmt.Errorf("the symbolic link points to %s, outside of the tree: refused", target)
	}

	if target == "" || strings.Contains(target, "\x00") {
		return "", errors.New("the symbolic link has no valid target")
	}

	return target, nil
}
