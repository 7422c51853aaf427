package source

import (
	"net/url"
	"path"
	"strings"
)

// Identity returns what a repository is known by, whatever way it is reached: host and path, without scheme, user, default
// port and .git. So git@github.com:acme/fleet.git and https://github.com/acme/fleet are one repository. A repository on
// this machine is known by its path, after "file:". The host is in lower case, since DNS is; the path is not, since most
// servers tell cases apart. "" if raw names no repository.
func Identity(raw string) string {
	scheme, rest, ok := strings.Cut(raw, "://")

	switch {
	case raw == "":
		return ""
	case !ok && isSCP(raw):
		if where, err := locateSCP(raw); err == nil {
			return identity(where.ssh.host, where.ssh.path)
		}

		return ""
	case !ok:
		// git takes host:path without a user, too.
		if host, where, short := strings.Cut(raw, ":"); short && !strings.Contains(host, "/") {
			return identity(host, where)
		}

		if where, err := absolute(raw); err == nil {
			return localIdentity(where.path)
		}

		return ""
	case strings.EqualFold(scheme, "file"):
		return localIdentity(rest)
	}

	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" {
		return ""
	}

	host := u.Hostname()
	if port := u.Port(); port != "" && port != defaultPorts[strings.ToLower(u.Scheme)] {
		host += ":" + port
	}

	return identity(host, u.Path)
}

var defaultPorts = map[string]string{"https": "443", "http": "80", "ssh": "22", "git+ssh": "22", "git": "9418"}

func identity(host, where string) string {
	if where = repositoryPath(where); host == "" || where == "" {
		return ""
	}

	return strings.ToLower(host) + "/" + where
}

func localIdentity(where string) string {
	if where = repositoryPath(where); where == "" {
		return ""
	}

	return "file:/" + where
}

// repositoryPath cleans the path of a repository: the .git of a bare one and of a working tree say nothing.
func repositoryPath(where string) string {
	where = strings.Trim(path.Clean("/"+where), "/")
	where = strings.TrimSuffix(where, "/.git")

	return strings.TrimSuffix(where, ".git")
}
