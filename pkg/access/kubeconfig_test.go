package access_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	gosync "sync"
	"testing"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/omni-syncd/omni-syncd/pkg/access"
)

const others = `apiVersion: v1
kind: Config
current-context: mine
preferences: {}
clusters: [{name: mine, cluster: {server: https://mine.example.com, certificate-authority: ca.crt}}]
contexts: [{name: mine, context: {cluster: mine, user: me, namespace: web, extensions: [{name: note, extension: {a: b}}]}}]
users: [{name: me, user: {token: ` + secret + `}}]
`

func TestMergeKubeconfig_NewFile(t *testing.T) {
	t.Parallel()

	path := filepath.Join(t.TempDir(), "home", ".kube", "config")

	same(t, "merged", access.Merged{Path: path, Context: "lab-prod", Current: true, Changed: true}, mergeKube(t, path, login(here, "prod"), access.MergeOptions{}))
	same(t, "files", map[string]fs.FileMode{"config": 0o600}, names(t, filepath.Dir(path)))

	if _, err := clientcmd.LoadFromFile(path); err != nil {
		t.Error(err)
	}

	// The second merge changes no byte, and does not even touch the file.
	before, stat := read(t, path), must1(t)(os.Stat(path))
	same(t, "merged again", access.Merged{Path: path, Context: "lab-prod", Current: true}, mergeKube(t, path, login(here, "prod"), access.MergeOptions{}))
	same(t, "file", before, read(t, path))

	if !os.SameFile(stat, must1(t)(os.Stat(path))) {
		t.Error("the file was replaced by an equal one")
	}
}

func must1(t *testing.T) func(fs.FileInfo, error) fs.FileInfo {
	return func(info fs.FileInfo, err error) fs.FileInfo {
		t.Helper()
		must(t, err)

		return info
	}
}

func TestMergeKubeconfig_KeepsOthers(t *testing.T) {
	t.Parallel()

	path := write(t, filepath.Join(t.TempDir(), "config"), others)
	must(t, os.Chmod(path, 0o640))

	mergeKube(t, path, login(here, "prod"), access.MergeOptions{})

	current, leads := contexts(t, path)
	same(t, "current", "lab-prod", current)
	same(t, "contexts", map[string]string{"mine": "https://mine.example.com " + secret, "lab-prod": here + " --oidc-extra-scope=cluster:prod"}, leads)
	same(t, "files", map[string]fs.FileMode{"config": 0o640}, names(t, filepath.Dir(path)))

	config, err := clientcmd.LoadFromFile(path)
	must(t, err)
	same(t, "authority", "ca.crt", config.Clusters["mine"].CertificateAuthority)
	same(t, "namespace", "web", config.Contexts["mine"].Namespace)
	same(t, "extensions", 1, len(config.Contexts["mine"].Extensions))

	before := read(t, path)
	mergeKube(t, path, login(here, "prod"), access.MergeOptions{})
	same(t, "second merge", before, read(t, path))
}

// What somebody set is what is not Omni's: the current context, the namespace.
func TestMergeKubeconfig_KeepsChoices(t *testing.T) {
	t.Parallel()

	path := write(t, filepath.Join(t.TempDir(), "config"), others)

	merged := mergeKube(t, path, login(here, "prod"), access.MergeOptions{KeepCurrent: true, Context: "prod"})
	same(t, "merged", access.Merged{Path: path, Context: "prod", Changed: true}, merged)

	config, err := clientcmd.LoadFromFile(path)
	must(t, err)
	same(t, "current", "mine", config.CurrentContext)

	config.Contexts["prod"].Namespace = "shop"
	must(t, clientcmd.WriteToFile(*config, path))

	before := read(t, path)
	same(t, "again", access.Merged{Path: path, Context: "prod"}, mergeKube(t, path, login(here, "prod"), access.MergeOptions{KeepCurrent: true, Context: "prod"}))
	same(t, "file", before, read(t, path))
}

func TestMergeKubeconfig_RotatedToken(t *testing.T) {
	t.Parallel()

	path := write(t, filepath.Join(t.TempDir(), "config"), others)
	mergeKube(t, path, withToken(here, "prod", "old"), access.MergeOptions{})
	mergeKube(t, path, withToken(here, "prod", "new"), access.MergeOptions{})

	_, leads := contexts(t, path)
	same(t, "contexts", map[string]string{"mine": "https://mine.example.com " + secret, "lab-prod-ci": here + " new"}, leads)

	if strings.Contains(read(t, path), "old") {
		t.Error("the old token is still there")
	}
}

// Entries of the same name that stand for something else are never touched.
func TestMergeKubeconfig_Taken(t *testing.T) {
	t.Parallel()

	cluster := "clusters: [{name: lab-prod, cluster: {server: %s}}]\n"
	context := "contexts: [{name: %s, context: {cluster: %s, user: %s}}]\n"

	for name, test := range map[string]struct {
		before string
		chosen string
		want   string // the context; "" is an error
	}{
		"another server": {
			fmt.Sprintf(cluster+context+"users: [{name: me, user: {token: t}}]", elsewhere, "lab-prod", "lab-prod", "me"), "", "lab-prod-1",
		},
		"a context of another cluster": {
			fmt.Sprintf("clusters: [{name: x, cluster: {server: %s}}]\n"+context+"users: [{name: me, user: {token: t}}]", here, "lab-prod", "x", "me"), "", "lab-prod-1",
		},
		"a chosen name of another cluster": {
			fmt.Sprintf("clusters: [{name: x, cluster: {server: %s}}]\n"+context+"users: [{name: me, user: {token: t}}]", here, "prod", "x", "me"), "prod", "",
		},
		"a user of another cluster": {
			fmt.Sprintf("clusters: [{name: x, cluster: {server: %s}}]\n"+context+"users: [{name: lab-prod-robot@omni, user: {token: t}}]", here, "c", "x", "lab-prod-robot@omni"), "", "lab-prod-1",
		},
		"a user of nobody": {"users: [{name: lab-prod-robot@omni, user: {token: t}}]", "", "lab-prod-1"},
		"our cluster with a user of its own": {
			fmt.Sprintf(cluster+context+"users: [{name: me, user: {token: t}}]", here, "admin", "lab-prod", "me"), "", "lab-prod",
		},
		"a context that leads nowhere":    {fmt.Sprintf(context, "lab-prod", "gone", "gone"), "", "lab-prod-1"},
		"another server, a chosen name":   {fmt.Sprintf(cluster, elsewhere), "prod", "prod"},
		"the cluster was left over":       {fmt.Sprintf(cluster, here), "", "lab-prod"},
		"our context with another's user": {fmt.Sprintf(cluster+context+"users: [{name: me, user: {token: t}}]", here, "lab-prod", "lab-prod", "me"), "", "lab-prod"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			path := write(t, filepath.Join(t.TempDir(), "config"), "apiVersion: v1\nkind: Config\n"+test.before)
			text := read(t, path)
			_, before := contexts(t, path)
			merged, err := access.MergeKubeconfig(t.Context(), []string{path}, login(here, "prod"), access.MergeOptions{Context: test.chosen})

			if test.want == "" {
				fails(t, err, path, "prod", "leads elsewhere", "kubectl config delete-context")
				same(t, "file", text, read(t, path))
				same(t, "files", 1, len(names(t, filepath.Dir(path))))

				return
			}

			must(t, err)
			same(t, "context", test.want, merged.Context)
			same(t, "taken", test.want == "lab-prod-1", merged.Taken == "lab-prod")

			_, after := contexts(t, path)
			same(t, "it leads", here+" --oidc-extra-scope=cluster:prod", after[test.want])
			delete(after, test.want)
			delete(before, test.want)
			same(t, "the others", before, after)

			text = read(t, path)
			again, err := access.MergeKubeconfig(t.Context(), []string{path}, login(here, "prod"), access.MergeOptions{Context: test.chosen})
			must(t, err)
			same(t, "second merge", text, read(t, path))
			same(t, "context again", test.want, again.Context)
		})
	}
}

// $KUBECONFIG names several files: kubectl reads them together, the first of each name wins.
func TestMergeKubeconfig_SeveralFiles(t *testing.T) {
	t.Parallel()

	dir := t.TempDir()
	missing, first, second := filepath.Join(dir, "missing"), write(t, filepath.Join(dir, "first"), others), filepath.Join(dir, "second")
	mergeKube(t, second, withToken(here, "prod", "old"), access.MergeOptions{})

	paths := []string{missing, first, second, first}
	merge := func(data []byte) access.Merged {
		merged, err := access.MergeKubeconfig(t.Context(), paths, data, access.MergeOptions{})
		must(t, err)

		return merged
	}

	// What is in the second file is replaced there; the first one says what is current.
	same(t, "replaced", access.Merged{Path: second, Context: "lab-prod-ci", Current: true, Changed: true}, merge(withToken(here, "prod", "new")))
	same(t, "new", access.Merged{Path: first, Context: "lab-test", Current: true, Changed: true}, merge(login(here, "test")))

	current, leads := contexts(t, paths...)
	same(t, "current", "lab-test", current)
	same(t, "contexts", map[string]string{
		"mine": "https://mine.example.com " + secret, "lab-prod-ci": here + " new", "lab-test": here + " --oidc-extra-scope=cluster:test",
	}, leads)
	same(t, "files", 2, len(names(t, dir)))

	before := read(t, first) + read(t, second)
	merge(login(here, "test"))
	same(t, "second merge", before, read(t, first)+read(t, second))

	// None of them is there: the last one is made, as by kubectl.
	last := filepath.Join(dir, "x", "b")
	merged, err := access.MergeKubeconfig(t.Context(), []string{filepath.Join(dir, "x", "a"), last}, login(here, "test"), access.MergeOptions{})
	must(t, err)
	same(t, "made", last, merged.Path)
}

func TestMergeKubeconfig_Symlinks(t *testing.T) {
	t.Parallel()

	dir := t.TempDir()
	target := write(t, filepath.Join(dir, "dotfiles", "kube"), others)
	link, dangling := filepath.Join(dir, "config"), filepath.Join(dir, "dangling")
	must(t, os.Symlink("dotfiles/kube", link))
	must(t, os.Symlink(filepath.Join("dotfiles", "..", "dotfiles", "new"), dangling))

	for _, path := range []string{link, dangling} {
		mergeKube(t, path, login(here, "prod"), access.MergeOptions{})

		info, err := os.Lstat(path)
		must(t, err)

		if info.Mode()&fs.ModeSymlink == 0 {
			t.Errorf("%s is no link any more", path)
		}

		if current, _ := contexts(t, path); current != "lab-prod" {
			t.Errorf("%s: current is %q", path, current)
		}
	}

	same(t, "targets", map[string]fs.FileMode{"kube": 0o600, "new": 0o600}, names(t, filepath.Dir(target)))

	loop := filepath.Join(dir, "loop")
	must(t, os.Symlink("loop", loop))

	_, err := access.MergeKubeconfig(t.Context(), []string{loop}, login(here, "prod"), access.MergeOptions{})
	fails(t, err, "too many symbolic links")
}

// A file that cannot be read is named and left alone, and nothing stays behind.
func TestMergeKubeconfig_Refuses(t *testing.T) {
	t.Parallel()

	for name, test := range map[string]struct {
		file, data string
		opts       access.MergeOptions
		words      []string
	}{
		"a broken file":        {"users:\n  - name: [" + secret, string(login(here, "prod")), access.MergeOptions{}, []string{"config", "line", "left as it is"}},
		"a file of two kinds":  {"users: " + secret, string(login(here, "prod")), access.MergeOptions{}, []string{"config", "left as it is"}},
		"something else":       {"apiVersion: v2\nkind: Secret\ntoken: " + secret, string(login(here, "prod")), access.MergeOptions{}, []string{"config"}},
		"an empty answer":      {others, "", access.MergeOptions{}, []string{"the answer"}},
		"a broken answer":      {others, "users: [{name: x, user: {token: [" + secret + "]}}]", access.MergeOptions{}, []string{"the answer"}},
		"an answer of two":     {others, string(login(here, "prod")) + "- name: x\n  user: {token: " + secret + "}\n", access.MergeOptions{}, []string{"the answer"}},
		"an answer of nothing": {others, "apiVersion: v1\nkind: Config\ncurrent-context: x\n", access.MergeOptions{}, []string{"one context"}},
		"an odd name":          {others, string(login(here, "prod")), access.MergeOptions{Context: "a\nb"}, []string{"printable"}},
		"blanks":               {others, string(login(here, "prod")), access.MergeOptions{Context: " a"}, []string{"blanks"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			path := write(t, filepath.Join(t.TempDir(), "config"), test.file)
			_, err := access.MergeKubeconfig(t.Context(), []string{path}, []byte(test.data), test.opts)
			fails(t, err, test.words...)
			same(t, "file", test.file, read(t, path))
			same(t, "files", map[string]fs.FileMode{"config": 0o600}, names(t, filepath.Dir(path)))
		})
	}

	_, err := access.MergeKubeconfig(t.Context(), []string{t.TempDir()}, login(here, "prod"), access.MergeOptions{})
	fails(t, err, "not a regular file")
}

// kubectl's lock is respected, and taken.
func TestMergeKubeconfig_Lock(t *testing.T) {
	t.Parallel()

	path := write(t, filepath.Join(t.TempDir(), "config"), others)
	write(t, path+".lock", "")

	_, err := access.MergeKubeconfig(ended(), []string{path}, login(here, "prod"), access.MergeOptions{})
	fails(t, err, "canceled")
	same(t, "file", others, read(t, path))

	done := make(chan error, 1)

	go func() {
		_, err := access.MergeKubeconfig(t.Context(), []string{path}, login(here, "prod"), access.MergeOptions{})
		done <- err
	}()

	must(t, os.Remove(path+".lock"))
	must(t, <-done)
	same(t, "files", map[string]fs.FileMode{"config": 0o600}, names(t, filepath.Dir(path)))
}

// Concurrent merges, ours and kubectl's, through a link and not, lose nothing.
func TestMergeKubeconfig_Concurrent(t *testing.T) {
	t.Parallel()

	dir := t.TempDir()
	path, link := write(t, filepath.Join(dir, "config"), others), filepath.Join(dir, "link")
	must(t, os.Symlink("config", link))

	const n = 12

	var group gosync.WaitGroup

	for i := range n {
		group.Go(func() {
			from := path
			if i%2 == 0 {
				from = link
			}

			if _, err := access.MergeKubeconfig(context.Background(), []string{from}, login(here, fmt.Sprint("c", i)), access.MergeOptions{}); err != nil {
				t.Error(err)
			}
		})
	}

	group.Wait()

	_, leads := contexts(t, path)
	same(t, "contexts", n+1, len(leads))
	same(t, "files", 2, len(names(t, dir)))
}

func TestEditKubeconfig(t *testing.T) {
	t.Parallel()

	data, err := access.EditKubeconfig(login(here, "prod"), access.MergeOptions{})
	must(t, err)
	same(t, "untouched", string(login(here, "prod")), string(data))

	data, err = access.EditKubeconfig(login(here, "prod"), access.MergeOptions{Context: "prod"})
	must(t, err)

	current, leads := contexts(t, write(t, filepath.Join(t.TempDir(), "config"), string(data)))
	same(t, "current", "prod", current)
	same(t, "contexts", map[string]string{"prod": here + " --oidc-extra-scope=cluster:prod"}, leads)
}

func TestWriteFile(t *testing.T) {
	t.Parallel()

	path := filepath.Join(t.TempDir(), "out")
	must(t, access.WriteFile(path, []byte("one"), false))
	same(t, "files", map[string]fs.FileMode{"out": 0o600}, names(t, filepath.Dir(path)))
	fails(t, access.WriteFile(path, []byte("two"), false), "--force")
	same(t, "file", "one", read(t, path))
	must(t, os.Chmod(path, 0o644))
	must(t, access.WriteFile(path, []byte("two"), true))
	same(t, "file", "two", read(t, path))
	same(t, "files", map[string]fs.FileMode{"out": 0o600}, names(t, filepath.Dir(path)))
	fails(t, access.WriteFile(filepath.Dir(path), nil, true), "regular")
	fails(t, access.WriteFile(filepath.Join(path, "x"), nil, true), "not a directory")

	// On an error nothing stays behind.
	dir := t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "sub"), 0o500))

	if os.Geteuid() != 0 {
		fails(t, access.WriteFile(filepath.Join(dir, "sub", "x"), nil, true), "permission denied")
	}
}

func FuzzMergeKubeconfig(f *testing.F) {
	f.Add(string(login(here, "prod")), others, "")
	f.Add(string(withToken(here, "prod", secret)), string(login(elsewhere, "prod")), "prod")
	f.Add("contexts: [{}]", "users: [null]", "x")

	f.Fuzz(func(t *testing.T, data, file, name string) {
		path := write(t, filepath.Join(t.TempDir(), "config"), file)
		opts := access.MergeOptions{Context: name}

		merged, err := access.MergeKubeconfig(t.Context(), []string{path}, []byte(data), opts)
		if err != nil {
			if read(t, path) != file {
				t.Fatal("an error, and the file is another one")
			}

			return
		}

		config, err := clientcmd.LoadFromFile(path)
		must(t, err)

		if config.Contexts[merged.Context] == nil || config.CurrentContext != merged.Context {
			t.Fatalf("%v is not in the file", merged)
		}

		before := read(t, path)
		again, err := access.MergeKubeconfig(t.Context(), []string{path}, []byte(data), opts)
		must(t, err)

		if again.Changed || read(t, path) != before {
			t.Fatalf("the second merge changes something:\n%s\n%s", before, read(t, path))
		}
	})
}
