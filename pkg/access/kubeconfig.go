package access

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// KubeconfigPaths returns the files that kubectl reads, in its order: those of $KUBECONFIG,
// else ~/.kube/config.
func KubeconfigPaths() []string {
	var paths []string

	for _, path := range clientcmd.NewDefaultPathOptions().GetLoadingPrecedence() {
		if path != "" { // a:: names an empty file
			paths = append(paths, path)
		}
	}

	if len(paths) == 0 {
		return []string{clientcmd.RecommendedHomeFile}
	}

	return paths
}

// MergeKubeconfig puts the context of a kubeconfig, with its cluster and its user, into
// one of some files, and makes it the current one. The files are those that kubectl reads
// together: of two entries of one name the one in the first file counts. Every other entry
// in them stays. Comments, and keys that kubectl does not know, are lost when a file is
// written, as they are with kubectl.
//
// The entries of the same cluster are replaced: a cluster entry of the same name that has
// the same server, a context that leads to it, and a user of the same name that only
// contexts of it have. An entry of the same name that stands for something else is left
// alone, and the new ones get a number behind their names; if the name of the context was
// chosen, that is an error. The namespace that somebody gave the context stays.
//
// What is in the files already is not written again, so a second merge changes no byte. A
// new context goes into the first file that exists, else into the last, as with kubectl. A
// file that cannot be read is an error, and left as it is.
//
// A file keeps its mode. But one that a token, or another secret, was merged into is for
// its owner only (0600), whatever it was.
func MergeKubeconfig(ctx context.Context, paths []string, data []byte, opts MergeOptions) (Merged, error) {
	if err := opts.check(); err != nil {
		return Merged{}, err
	}

	one, err := parseEntry(data)
	if err != nil {
		return Merged{}, err
	}

	if len(paths) == 0 {
		return Merged{}, errors.New("no file to merge the kubeconfig into")
	}

	return locked(ctx, paths, func() (Merged, error) {
		files, err := loadKubeconfigs(paths)
		if err != nil {
			return Merged{}, err
		}

		return files.merge(one, opts)
	})
}

// EditKubeconfig returns a kubeconfig of Omni with another name of its context.
func EditKubeconfig(data []byte, opts MergeOptions) ([]byte, error) {
	if opts.Context == "" {
		return data, nil
	}

	if err := opts.check(); err != nil {
		return nil, err
	}

	one, err := parseEntry(data)
	if err != nil {
		return nil, err
	}

	config := api.NewConfig()
	config.Contexts[opts.Context], config.Clusters[one.context.Cluster], config.AuthInfos[one.context.AuthInfo] = one.context, one.cluster, one.user
	config.CurrentContext = opts.Context

	return clientcmd.Write(*config)
}

// entry is one context with what it refers to.
type entry struct {
	name    string
	context *api.Context
	cluster *api.Cluster
	user    *api.AuthInfo
}

// parseEntry reads what Omni gave. It holds one context and nothing else.
func parseEntry(data []byte) (entry, error) {
	config, err := loadKubeconfig("the answer", data)
	if err != nil {
		return entry{}, err
	}

	one := entry{name: config.CurrentContext, context: config.Contexts[config.CurrentContext]}

	if one.context != nil {
		one.cluster, one.user = config.Clusters[one.context.Cluster], config.AuthInfos[one.context.AuthInfo]
	}

	if one.cluster == nil || one.user == nil || one.cluster.Server == "" || len(config.Contexts)+len(config.Clusters)+len(config.AuthInfos) != 3 ||
		!isName(one.name) || !isName(one.context.Cluster) || !isName(one.context.AuthInfo) {
		return entry{}, errors.New("the answer is no kubeconfig of one cluster: it needs one context, with a server and a user")
	}

	return one, nil
}

// loadKubeconfig reads a kubeconfig so that it can be written as it is.
func loadKubeconfig(path string, data []byte) (*api.Config, error) {
	config, err := clientcmd.Load(data)
	if err != nil {
		return nil, unreadable(path, "kubeconfig", err)
	}

	for _, missing := range []bool{hasNil(config.Clusters), hasNil(config.Contexts), hasNil(config.AuthInfos)} {
		if missing {
			return nil, fmt.Errorf("%s cannot be read as a kubeconfig: one of its entries is empty; it was left as it is", path)
		}
	}

	return config, nil
}

func hasNil[T any](entries map[string]*T) bool {
	for _, e := range entries {
		if e == nil {
			return true
		}
	}

	return false
}

// kubeconfigs are the files that kubectl reads, in its order.
type kubeconfigs []*kubeconfig

type kubeconfig struct {
	*api.Config

	path   string // as it was named
	place  place
	read   *api.Config // as it was read
	secret bool        // a secret was put into it
}

func loadKubeconfigs(paths []string) (kubeconfigs, error) {
	var files kubeconfigs

	for _, path := range paths {
		at, err := locate(path)
		if err != nil {
			return nil, err
		}

		if slices.ContainsFunc(files, func(f *kubeconfig) bool { return f.place.path == at.path }) {
			continue // a link to another one of them
		}

		data, err := at.read()
		if err != nil {
			return nil, err
		}

		config, err := loadKubeconfig(path, data)
		if err != nil {
			return nil, err
		}

		files = append(files, &kubeconfig{Config: config, path: path, place: at, read: config.DeepCopy()})
	}

	return files, nil
}

// merge chooses the names of an entry, changes the files and writes what differs.
func (files kubeconfigs) merge(one entry, opts MergeOptions) (Merged, error) {
	for n := range maxSuffix {
		next := one.renamed(n, opts.Context)

		if !files.free(next) {
			continue
		}

		target := files.fileOf(next.name)

		if !files.leadsTo(next) {
			if opts.Context != "" {
				return Merged{}, taken(target.path, next.name, "kubectl config delete-context")
			}

			continue
		}

		merged := Merged{Path: target.path, Context: next.name}
		if n > 0 && opts.Context == "" {
			merged.Taken = one.name
		}

		files.put(next, target)

		// The first file that names a current context wins. Before the fallback there is none.
		if !opts.KeepCurrent && files.current() != next.name {
			files.fallback().CurrentContext = next.name
		}

		merged.Current = files.current() == next.name

		return files.write(merged)
	}

	return Merged{}, fmt.Errorf("%s has %d contexts called %s and a number, and all of them lead elsewhere: remove some, or choose a name with --context", files[0].path, maxSuffix, one.name)
}

// renamed returns a copy with a number behind its names, and with the name of the context
// that was chosen.
func (e entry) renamed(n int, context string) entry {
	next := entry{name: context, context: e.context.DeepCopy(), cluster: e.cluster, user: e.user}
	next.context.Cluster = suffixed(e.context.Cluster, n)
	next.context.AuthInfo = suffixed(e.context.AuthInfo, n)

	if context == "" {
		next.name = suffixed(e.name, n)
	}

	return next
}

// free reports whether the names of the cluster and the user stand for nothing, or for
// this cluster.
func (files kubeconfigs) free(e entry) bool {
	cluster := find(files, func(f *kubeconfig) map[string]*api.Cluster { return f.Clusters }, e.context.Cluster)
	if cluster != nil && cluster.Server != e.cluster.Server {
		return false
	}

	user := find(files, func(f *kubeconfig) map[string]*api.AuthInfo { return f.AuthInfos }, e.context.AuthInfo)
	if user == nil || reflect.DeepEqual(user, e.user) {
		return true
	}

	// A user that differs is ours if it is for this cluster and for nothing else.
	used := false

	for _, f := range files {
		for _, context := range f.Contexts {
			if context.AuthInfo != e.context.AuthInfo {
				continue
			}

			if context.Cluster != e.context.Cluster {
				return false
			}

			used = true
		}
	}

	return used && cluster != nil
}

// leadsTo reports whether the name of the context stands for nothing, or for this cluster.
func (files kubeconfigs) leadsTo(e entry) bool {
	context := find(files, func(f *kubeconfig) map[string]*api.Context { return f.Contexts }, e.name)

	return context == nil || context.Cluster == e.context.Cluster
}

// find returns the entry of a name that counts; nil if there is none.
func find[T any](files kubeconfigs, of func(*kubeconfig) map[string]*T, name string) *T {
	for _, f := range files {
		if e := of(f)[name]; e != nil {
			return e
		}
	}

	return nil
}

// fileOf returns the file that has a context, or that a new one goes into.
func (files kubeconfigs) fileOf(context string) *kubeconfig {
	for _, f := range files {
		if f.Contexts[context] != nil {
			return f
		}
	}

	return files.fallback()
}

// fallback returns the file that new entries go into.
func (files kubeconfigs) fallback() *kubeconfig {
	for _, f := range files {
		if f.place.exists {
			return f
		}
	}

	return files[len(files)-1]
}

// put changes the files. Entries that are somewhere already stay there.
func (files kubeconfigs) put(e entry, target *kubeconfig) {
	owner := func(has func(*kubeconfig) bool) *kubeconfig {
		if i := slices.IndexFunc(files, has); i >= 0 {
			return files[i]
		}

		return target
	}

	owner(func(f *kubeconfig) bool { return f.Clusters[e.context.Cluster] != nil }).Clusters[e.context.Cluster] = e.cluster

	f := owner(func(f *kubeconfig) bool { return f.AuthInfos[e.context.AuthInfo] != nil })
	f.AuthInfos[e.context.AuthInfo], f.secret = e.user, holdsSecret(e.user)

	context := e.context
	if before := target.Contexts[e.name]; before != nil {
		context = before.DeepCopy()
		context.Cluster, context.AuthInfo = e.context.Cluster, e.context.AuthInfo
	}

	target.Contexts[e.name] = context
}

// holdsSecret tells a user who has to be kept secret from one who logs in.
func holdsSecret(user *api.AuthInfo) bool {
	return user.Token != "" || user.Password != "" || len(user.ClientKeyData) > 0 || user.AuthProvider != nil
}

// current returns the current context.
func (files kubeconfigs) current() string {
	for _, f := range files {
		if f.CurrentContext != "" {
			return f.CurrentContext
		}
	}

	return ""
}

// write writes the files that differ from what was read. Nothing is written if one of them
// cannot be.
func (files kubeconfigs) write(merged Merged) (Merged, error) {
	texts := map[*kubeconfig][]byte{}

	for _, f := range files {
		if reflect.DeepEqual(f.read, f.Config) {
			continue
		}

		data, err := clientcmd.Write(*f.Config)
		if err != nil {
			return Merged{}, fmt.Errorf("write %s: %w", f.path, err)
		}

		texts[f] = data
	}

	for _, f := range files {
		changed, shut, err := f.place.put(texts[f], f.secret)
		if err != nil {
			return merged, fmt.Errorf("write %s: %w", f.path, err)
		}

		merged.Changed = merged.Changed || changed

		if shut {
			merged.Shut = f.path
		}
	}

	return merged, nil
}
