package source

import (
	"crypto/sha1"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What makes a checkout dirty where Git itself does not look, or go-git does not.
func TestDirty(t *testing.T) {
	whole := newCheckout(t)

	git := func(args string) func(t *testing.T, r string) {
		return func(t *testing.T, r string) { runGit(t, r, strings.Fields(args)...) }
	}
	write := func(name string) func(t *testing.T, r string) {
		return func(t *testing.T, r string) { writeFiles(t, r, map[string]string{name: "changed"}) }
	}

	for name, test := range map[string]struct {
		change []func(t *testing.T, r string)
		folder string
		want   string // in what is said; "" for clean
	}{
		"clean":                                {nil, "", ""},
		"a submodule":                          {[]func(*testing.T, string){write("clusters/apps/b.yaml")}, "", "clusters/apps/b.yaml"},
		"a new file in a nested submodule":     {[]func(*testing.T, string){write("clusters/apps/deep/new.yaml")}, "", "clusters/apps/deep/new.yaml"},
		"a submodule elsewhere":                {[]func(*testing.T, string){write("clusters/apps/b.yaml")}, "other", ""},
		"another commit of a submodule":        {[]func(*testing.T, string){git("-C clusters/apps checkout --quiet HEAD^")}, "clusters", "clusters/apps"},
		"no submodule":                         {[]func(*testing.T, string){git("submodule deinit --quiet --force clusters/apps")}, "", ""},
		"a submodule that is only initialised": {[]func(*testing.T, string){git("submodule deinit --quiet --force clusters/apps"), git("submodule --quiet init")}, "", ""},
		"assume-unchanged, changed":            {[]func(*testing.T, string){git("update-index --assume-unchanged other/d.yaml"), write("other/d.yaml")}, "", "other/d.yaml"},
		"assume-unchanged, gone": {[]func(*testing.T, string){git("update-index --assume-unchanged other/d.yaml"), func(t *testing.T, r string) {
			remove(t, r+"/other/d.yaml")
		}}, "", "other/d.yaml"},
		// It hid that a resource was taken out of a file.
		"skip-worktree, changed":           {[]func(*testing.T, string){git("update-index --skip-worktree other/d.yaml"), write("other/d.yaml")}, "", "other/d.yaml"},
		"skip-worktree, changed elsewhere": {[]func(*testing.T, string){git("update-index --skip-worktree other/d.yaml"), write("other/d.yaml")}, "clusters", ""},
		"skip-worktree":                    {[]func(*testing.T, string){git("update-index --skip-worktree other/d.yaml")}, "", ""},
		// go-git does not open what has extensions.worktreeConfig.
		"sparse":          {[]func(*testing.T, string){git("sparse-checkout set --no-cone /clusters/")}, "", ""},
		"sparse, changed": {[]func(*testing.T, string){git("sparse-checkout set --no-cone /clusters/"), write("clusters/a.yaml")}, "", "clusters/a.yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			r := copyOf(t, whole)
			head := headOf(t, r)

			for _, change := range test.change {
				change(t, r)
			}

			modules := listed(t, r+"/.git/modules")

			checkout, ok := CheckoutOf(filepath.Join(r, test.folder))
			if got, err := checkout.Dirty(); !ok || err != nil || got != test.want {
				t.Errorf("%q, %v; want %q", got, err, test.want)
			}

			if yes, known := NewDir(DirConfig{Path: filepath.Join(r, test.folder)}).Follows(head, strings.Repeat("1", 40)); yes || !known {
				t.Errorf("its history cannot be read: %v, %v", yes, known)
			}

			if now := listed(t, r+"/.git/modules"); now != modules {
				t.Errorf("it wrote:\n%s\nbefore\n%s", now, modules)
			}
		})
	}
}

func headOf(t *testing.T, r string) string {
	t.Helper()

	checkout, _ := CheckoutOf(r)

	head, err := checkout.Head()
	if err != nil {
		t.Fatal(err)
	}

	return head
}

// listed names all there is in a folder.
func listed(t *testing.T, dir string) string {
	t.Helper()

	var names strings.Builder

	if err := filepath.WalkDir(dir, func(name string, _ os.DirEntry, err error) error {
		names.WriteString(name + "\n")

		return err
	}); err != nil {
		t.Fatal(err)
	}

	return names.String()
}

// Every form in which git writes an index is read, or it is said what to do.
func TestIndexFormats(t *testing.T) {
	whole := newCheckout(t)

	for name, test := range map[string]struct {
		commands []string
		want     string // what the error has; "" for none
	}{
		"plain":          {nil, ""},
		"version 4":      {[]string{"update-index --index-version 4"}, ""},
		"untracked":      {[]string{"update-index --force-untracked-cache"}, ""},
		"threads":        {[]string{"config index.threads 2", "update-index --force-write-index --refresh"}, ""},
		"sparse":         {[]string{"sparse-checkout set --sparse-index clusters"}, ""},
		"sparse, no end": {[]string{"config index.threads 1", "config index.recordEndOfIndexEntries false", "sparse-checkout set --sparse-index clusters"}, ""},
		"sparse, end":    {[]string{"config index.threads 4", "config index.recordEndOfIndexEntries true", "sparse-checkout set --sparse-index clusters"}, ""},
		"split":          {[]string{"update-index --split-index"}, "git update-index --no-split-index"},
	} {
		t.Run(name, func(t *testing.T) {
			r := copyOf(t, whole)
			for _, command := range test.commands {
				runGit(t, r, strings.Fields(command)...)
			}

			x, _ := statIndex(r, ".", "")

			entries, err := x.entries()
			if test.want == "" && (err != nil || len(entries) < 4) || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("%d entries, %v; want %q", len(entries), err, test.want)
			}
		})
	}

	data, err := os.ReadFile(whole + "/.git/index")
	if err != nil {
		t.Fatal(err)
	}

	body := data[:len(data)-sha1.Size]
	if entries, err := decodeIndex(append(body[:len(body):len(body)], make([]byte, sha1.Size)...)); err != nil || len(entries) < 4 {
		t.Errorf("without a checksum (index.skipHash): %d entries, %v", len(entries), err)
	}

	// Whatever happens to an index, it is said: damage is never taken for a shorter one.
	for n := 0; n < len(data); n += 7 {
		if entries, err := decodeIndex(data[:n]); err == nil {
			t.Errorf("cut off after %d bytes: %d entries", n, len(entries))
		}

		damaged := append([]byte(nil), data...)
		damaged[n] ^= 0x20

		if entries, err := decodeIndex(damaged); err == nil {
			t.Errorf("byte %d: %d entries", n, len(entries))
		}
	}

	large := copyOf(t, whole)
	if err := os.Truncate(large+"/.git/index", MaxIndexSize+1); err != nil {
		t.Fatal(err)
	}

	if x, _ := statIndex(large, ".", ""); true {
		if _, err := x.entries(); err == nil || !strings.Contains(err.Error(), "more than the limit of 64.0 MiB") {
			t.Errorf("a large one: %v", err)
		}
	}
}

// A directory of 3,000 templates, outside of Git and in a checkout.
func BenchmarkDirCheckout(b *testing.B) {
	for _, kind := range []string{"folder", "checkout"} {
		dir := b.TempDir()
		files := map[string]string{}

		for n := range 3000 {
			files[change(n, 0)[len("M 100644 inline "):len("M 100644 inline clusters/00/0000.yaml")]] = smallCluster("a")
		}

		writeFiles(b, dir, files)

		if kind == "checkout" {
			runGit(b, dir, "init", "--quiet")
			commitAll(b, dir)
		}

		b.Run(kind+"/read", func(b *testing.B) {
			for b.Loop() {
				fetch(b, NewDir(quick(dir)))
			}
		})
		b.Run(kind+"/index", func(b *testing.B) {
			for b.Loop() {
				x, _ := statIndex(dir, ".", "")
				x.entries() //nolint:errcheck // outside of Git there is none
			}
		})
		b.Run(kind+"/look", func(b *testing.B) {
			d := NewDir(quick(dir))
			d.trusted = true

			for rev := fetch(b, d); b.Loop(); {
				d.trusted = true

				if fetch(b, d).FS != rev.FS {
					b.Fatal("read again")
				}
			}
		})
	}
}
