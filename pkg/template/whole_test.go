package template_test

import (
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/omni-syncd/omni-syncd/pkg/template"
)

// G2: a folder link that led nowhere was taken for an empty folder, and a template that became a pipe for one that was
// removed: their clusters were deleted. Whatever may have been a file or a folder of the scope is a problem.
func TestG2_WhatCannotBeRead(t *testing.T) {
	const (
		link   = fs.ModeSymlink
		pipe   = fs.ModeNamedPipe
		socket = fs.ModeSocket
		device = fs.ModeDevice | fs.ModeCharDevice
	)

	files := fstest.MapFS{"root/good.yaml": {Data: []byte(cluster("  []\n"))}, "elsewhere/pipe": {Mode: pipe}}

	for name, what := range map[string]struct {
		mode   fs.FileMode
		target string
	}{
		"apps":            {link, "../gone"},
		"a.yaml":          {link, "gone.yaml"},
		"deep/er/l":       {link, "../../../gone"},
		"deep/er/chain":   {link, "l"},
		"deep/README.md":  {link, "gone.md"},
		"to-pipe":         {link, "../elsewhere/pipe"},
		"to-pipe.yml":     {link, "../elsewhere/pipe"},
		"pipe":            {pipe, ""},
		"pipe.yaml":       {pipe, ""},
		"deep/socket":     {socket, ""},
		"device.yml":      {device, ""},
		"odd*[name]":      {link, "\x1b gone\n"},
		"long":            {link, strings.Repeat("x", 1000)},
		".hidden":         {link, "gone"},
		".pipe":           {pipe, ""},
		".hidden/x.yaml":  {},
		".hidden.yaml":    {link, "gone"},
		"..data":          {link, "gone"},
		"deep/..pipe":     {pipe, ""},
		"deep/readme.txt": {},
	} {
		files["root/"+name] = &fstest.MapFile{Mode: what.mode, Data: []byte(what.target)}
	}

	const all = `root/.hidden.yaml: this link to "gone" leads nowhere; correct that, or leave it out with exclude ".hidden.yaml"
root/a.yaml: this link to "gone.yaml" leads nowhere; correct that, or leave it out with exclude "a.yaml"
root/apps: this link to "../gone" leads nowhere; correct that, or leave it out with exclude "apps"
root/deep/README.md: this link to "gone.md" leads nowhere; correct that, or leave it out with exclude "deep/README.md"
root/deep/er/chain: this link to "l" leads nowhere; correct that, or leave it out with exclude "deep/er/chain"
root/deep/er/l: this link to "../../../gone" leads nowhere; correct that, or leave it out with exclude "deep/er/l"
root/deep/socket: this is a socket, not a file; correct that, or leave it out with exclude "deep/socket"
root/device.yml: this is a device, not a file; correct that, or leave it out with exclude "device.yml"
root/long: this link to "XXX" leads nowhere; correct that, or leave it out with exclude "long"
root/odd*[name]: this link to "\x1b gone\n" leads nowhere; correct that, or leave it out with exclude "odd\\*\\[name\\]"
root/pipe: this is a named pipe, not a file; correct that, or leave it out with exclude "pipe"
root/pipe.yaml: this is a named pipe, not a file; correct that, or leave it out with exclude "pipe.yaml"
root/to-pipe: this link leads to a named pipe, not to a file; correct that, or leave it out with exclude "to-pipe"
root/to-pipe.yml: this link leads to a named pipe, not to a file; correct that, or leave it out with exclude "to-pipe.yml"`

	only := func(names ...string) string {
		var lines []string

		for line := range strings.Lines(all) {
			for _, name := range names {
				if strings.HasPrefix(line, "root/"+name+":") {
					lines = append(lines, strings.TrimSuffix(line, "\n"))
				}
			}
		}

		return strings.Join(lines, "\n")
	}

	for name, tt := range map[string]struct {
		include, exclude []string
		want             string
	}{
		"everything":          {nil, nil, all},
		"a file":              {[]string{"good.yaml"}, nil, ""},
		"that file":           {[]string{"a.yaml"}, nil, only("a.yaml")},
		"files of the root":   {[]string{"./*.yaml"}, nil, only(".hidden.yaml", "a.yaml", "pipe.yaml")},
		"what is in the root": {[]string{"*"}, nil, only(".hidden.yaml", "a.yaml", "device.yml", "pipe.yaml", "to-pipe.yml")},
		"a folder":            {[]string{"apps/**"}, nil, only("apps")},
		"files of folders":    {[]string{"*/*.yaml"}, nil, only("apps", "long", "odd*[name]", "pipe", "to-pipe", "a.yaml", "pipe.yaml", "device.yml", "to-pipe.yml")},
		"folders by name":     {[]string{"{deep,apps}/**/*.yaml"}, nil, only("apps", "deep/README.md", "deep/er/chain", "deep/er/l", "deep/socket")},
		"folders by path":     {[]string{"{deep/er,x}/*.yaml"}, nil, only("apps", "long", "odd*[name]", "pipe", "to-pipe", "a.yaml", "pipe.yaml", "device.yml", "to-pipe.yml", "deep/README.md", "deep/er/chain", "deep/er/l", "deep/socket")},
		"below some folder":   {[]string{"deep/e?/[a-l]/x.yaml"}, nil, only("deep/er/l")},
		"what is advised":     {nil, []string{".hidden.yaml", "a.yaml", "apps", "deep/README.md", "deep/er/chain", "deep/er/l", "deep/socket", "device.yml", "long", "odd\\*\\[name\\]", "pipe", "pipe.yaml", "to-pipe", "to-pipe.yml"}, ""},
		"a folder of them":    {[]string{"**/*.yaml"}, []string{"*", "deep/er"}, only()},
		"excluded everywhere": {nil, []string{"**/{l,chain,README.md}", "*p*", "deep/*et", "*.y*", "odd*", "long"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, problems := template.Find(files, template.Scope{Root: "root", Include: tt.include, Exclude: tt.exclude})
			got := strings.ReplaceAll(problems.Error(), strings.Repeat("x", 200), "XXX")

			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// moving is a file system that was read while it was still being written.
type moving struct {
	fstest.MapFS

	moves bool
}

func (m moving) Moving() bool                 { return m.moves }
func (m moving) Digest(string) (string, bool) { return "same", true }

// G2: a directory that was being copied was read half-way, and what was missing was deleted. The same files count once they
// rest.
func TestG2_MovingTree(t *testing.T) {
	files := tree(map[string]string{"c.yaml": cluster("  []\n")})
	still, moves := moving{files, false}, moving{files, true}
	scope := template.Scope{}

	set, problems := template.Find(moves, scope)
	if len(set.Templates) != 1 || len(problems) != 1 || !strings.Contains(problems.Error(), "the directory was still changing") {
		t.Fatalf("%d templates: %v", len(set.Templates), problems)
	}

	if !set.SameIn(moves, scope) || set.SameIn(still, scope) {
		t.Error("rest makes no difference")
	}

	set, problems = set.Next(still, scope)
	if len(set.Templates) != 1 || len(problems) > 0 || set.SameIn(moves, scope) || !set.SameIn(still, scope) {
		t.Errorf("%d templates at rest: %v", len(set.Templates), problems)
	}
}
