package source

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"unicode"
)

// Kind tells what an argument on the command line names.
type Kind int

const (
	// KindDir is a directory: its files are taken as they are.
	KindDir Kind = iota + 1
	// KindGit is a Git repository: its commits are taken.
	KindGit
)

// String returns "directory" or "git".
func (k Kind) String() string {
	switch k {
	case KindDir:
		return "directory"
	case KindGit:
		return "git"
	default:
		return "unknown"
	}
}

// Parse tells whether arg names a Git repository or a directory.
//
// Git: any URL with a scheme Git knows (https, http, ssh, git, file), user@host:path,
// a path that ends in ".git", and a folder that is a bare repository. Everything else
// is a directory, also a working tree with a .git folder in it: who points at a
// checkout means the files as they are now, uncommitted changes included. Write
// file:///path for its commits.
//
// The error says that arg is neither. Whether a repository can be reached is found out
// by Git.
func Parse(arg string) (Kind, error) {
	if arg == "" {
		return 0, errors.New("empty source: give a directory or a Git URL")
	}

	if scheme, _, ok := strings.Cut(arg, "://"); ok {
		switch strings.ToLower(scheme) {
		case "https", "http", "ssh", "git", "git+ssh", "file":
			return KindGit, nil
		}

		return 0, fmt.Errorf("%s: unknown scheme %q: give a directory or a Git URL (https://…, ssh://…, file://…)", Redact(arg), scheme)
	}

	if isSCP(arg) {
		return KindGit, nil
	}

	info, err := os.Stat(arg)
	if err != nil {
		return 0, fmt.Errorf("%s is neither a directory nor a Git URL: %w", arg, errors.Unwrap(err))
	}

	if !info.IsDir() {
		return 0, fmt.Errorf("%s is a file: give the directory that holds it, or a Git URL", arg)
	}

	if strings.HasSuffix(filepath.Clean(arg), ".git") || isGitDir(arg) {
		return KindGit, nil
	}

	return KindDir, nil
}

// Redact returns a repository URL as it may be shown: without user, password, query
// and fragment. It works on text that is no valid URL, because a password with odd
// characters is exactly what makes a URL invalid. Everything up to the last @ goes.
func Redact(raw string) string {
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok {
		// A path, or user@host:path, which has no place for a secret. Who writes one there
		// all the same is helped.
		if user, rest, isSSH := strings.Cut(raw, "@"); isSSH && isSCP(raw) && strings.Contains(user, ":") {
			return rest
		}

		return raw
	}

	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		rest = rest[at+1:]
	}

	if end := strings.IndexAny(rest, "?#"); end >= 0 {
		rest = rest[:end]
	}

	return scheme + "://" + rest
}

// OverSSH reports whether a repository is reached with ssh.
func OverSSH(raw string) bool {
	where, err := locate(raw)

	return err == nil && where.ssh != nil
}

// isSCP reports whether s reads user@host:path, the short form of ssh.
func isSCP(s string) bool {
	user, rest, ok := strings.Cut(s, "@")
	if !ok || user == "" || strings.ContainsAny(user, `/\`) {
		return false
	}

	host, path, ok := strings.Cut(rest, ":")

	return ok && host != "" && path != "" && !strings.ContainsAny(host, `/\`)
}

// location is a checked GitConfig.URL: one of its fields is set.
type location struct {
	path string      // absolute
	url  *url.URL    // http or https, without userinfo
	ssh  *sshAddress // a server that is reached with ssh
}

// locate checks what GitConfig.URL may say. Credentials in a URL are refused: they
// would end in process lists, shell histories and configuration that is meant to be
// shared. The user of an ssh URL is none: it is "git" nearly everywhere.
func locate(raw string) (location, error) {
	scheme, rest, ok := strings.Cut(raw, "://")

	switch scheme = strings.ToLower(scheme); {
	case raw == "":
		return location{}, errors.New("no repository URL: set url to https://…, ssh://… or a path")
	case !ok && isSCP(raw):
		return locateSCP(raw)
	case !ok:
		return absolute(raw)
	case scheme == "ssh", scheme == "git+ssh":
		return locateSSH("ssh://" + rest)
	case scheme == "file":
		u, err := url.Parse("file://" + rest)
		if err != nil || (u.Host != "" && u.Host != "localhost") || u.Path == "" {
			return location{}, errors.New("a file URL reads file:///absolute/path")
		}

		return absolute(u.Path)
	case scheme != "https" && scheme != "http":
		return location{}, fmt.Errorf("scheme %q is not supported: use https://…, ssh://…, file://… or a path", clean(scheme))
	case strings.Contains(rest, "@"): // also where a slash in a password makes the parser see a path
		return location{}, errors.New("credentials in the URL are refused, they end in process lists and logs: remove what stands before the @, and use a login")
	}

	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" {
		return location{}, errors.New("not a valid URL: use https://host/path")
	}

	if u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return location{}, errors.New("a repository URL has no query and no fragment: remove what follows ? or #")
	}

	return location{url: u}, nil
}

var errSSH = errors.New("not a valid ssh URL: use ssh://user@host/path or user@host:path")

func locateSSH(raw string) (location, error) {
	// A password may hold anything, also what makes the URL invalid: look for it first.
	authority, _, _ := strings.Cut(strings.TrimPrefix(raw, "ssh://"), "/")
	if at := strings.LastIndexByte(raw, '@'); at >= 0 && strings.Contains(raw[len("ssh://"):at], ":") {
		return location{}, errors.New("credentials in the URL are refused, they end in process lists and logs: remove the password, and use a key")
	}

	if !strings.Contains(authority, "@") {
		return location{}, errors.New("the ssh URL names no user: use ssh://git@host/path, if it is git as on most servers")
	}

	u, err := url.Parse(raw)
	if err != nil || u.RawQuery != "" || u.Fragment != "" {
		return location{}, errSSH
	}

	port := u.Port()
	if port == "" {
		port = "22"
	}

	// As with git: /~name is somebody's home, everything else is as it stands.
	path := u.Path
	if strings.HasPrefix(path, "/~") {
		path = path[1:]
	}

	return checkSSH(sshAddress{user: u.User.Username(), host: u.Hostname(), port: port, path: path})
}

func locateSCP(raw string) (location, error) {
	user, rest, _ := strings.Cut(raw, "@")
	if strings.Contains(user, ":") {
		return location{}, errors.New("credentials in the URL are refused, they end in process lists and logs: remove the password, and use a key")
	}

	host, path, _ := strings.Cut(rest, ":")

	if strings.HasPrefix(rest, "[") { // an IPv6 address has colons
		inner, after, ok := strings.Cut(rest[1:], "]:")
		if !ok {
			return location{}, errSSH
		}

		host, path = inner, after
	}

	return checkSSH(sshAddress{user: user, host: host, port: "22", path: path})
}

func checkSSH(addr sshAddress) (location, error) {
	odd := func(r rune) bool { return r <= ' ' || r == 0x7f }

	if addr.user == "" || addr.host == "" || addr.path == "" || addr.path == "/" ||
		strings.ContainsFunc(addr.user+addr.host, odd) || strings.ContainsFunc(addr.path, unicode.IsControl) {
		return location{}, errSSH
	}

	return location{ssh: &addr}, nil
}

func absolute(path string) (location, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return location{}, fmt.Errorf("find the current directory: %w", err)
	}

	return location{path: abs}, nil
}
