package access

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

// policyKey is where the configuration holds the policy.
const policyKey = "`access.serviceAccounts` in the daemon's configuration"

// systemPrefix begins the names that Kubernetes gives a meaning to: system:masters,
// system:admin, system:kube-controller-manager.
const systemPrefix = "system:"

// wildcards are the characters that make a name a glob.
const wildcards = "*?[\\"

// ServiceAccountPolicy says which tokens may be asked for. What it does not name is denied.
type ServiceAccountPolicy struct {
	// MaxTTL is the longest life of a token. It cannot be revoked, so keep this short.
	MaxTTL time.Duration
	// Users are globs, as of [path.Match]; at least one. A name that begins with "system:"
	// is allowed by its own name only, never by a wildcard.
	Users []string
	// Groups are names; wildcards mean nothing. Without any, only tokens without groups
	// can be had.
	Groups []string
}

// Validate returns an error if the policy cannot mean what somebody wants.
func (p *ServiceAccountPolicy) Validate() error {
	switch {
	case p == nil:
		return nil
	case p.MaxTTL <= 0:
		return errors.New("maxTTL: it must be longer than nothing: tokens cannot be revoked, so say how long one may live")
	case len(p.Users) == 0:
		return errors.New("users: name at least one, or leave all of it out to allow no tokens")
	}

	for _, pattern := range p.Users {
		if _, err := path.Match(pattern, ""); err != nil || pattern == "" {
			return fmt.Errorf("users: %q is no name or glob", pattern)
		}

		if strings.HasPrefix(pattern, systemPrefix) && strings.ContainsAny(pattern, wildcards) {
			return fmt.Errorf("users: %q: what begins with %s has to be named as a whole", pattern, systemPrefix)
		}
	}

	for _, group := range p.Groups {
		if group == "" || strings.ContainsAny(group, wildcards) {
			return fmt.Errorf("groups: %q: name each group, wildcards mean nothing here", group)
		}
	}

	return nil
}

// check says whether a service account is allowed, and if not, what is. A nil policy
// allows none.
func (p *ServiceAccountPolicy) check(account *ServiceAccount) error {
	if p == nil {
		return failure(Denied, "this daemon issues no kubeconfigs with tokens; %s can allow them. Without --service-account the kubeconfig logs in to Omni", policyKey)
	}

	if !slices.ContainsFunc(p.Users, func(pattern string) bool { return allows(pattern, account.User) }) {
		text := fmt.Sprintf("no token for the user %q: %s allows %s", account.User, policyKey, list(p.Users))
		if strings.HasPrefix(account.User, systemPrefix) {
			text += " (what begins with " + systemPrefix + " has to be named there, without a wildcard)"
		}

		return failure(Denied, "%s", text)
	}

	for _, group := range account.Groups {
		if !slices.Contains(p.Groups, group) {
			return failure(Denied, "no token with the group %q: %s allows %s", group, policyKey, list(p.Groups))
		}
	}

	if account.TTL > p.MaxTTL {
		return failure(Denied, "no token that lives %s: %s allows %s", account.TTL, policyKey, p.MaxTTL)
	}

	return nil
}

func allows(pattern, user string) bool {
	if pattern == user {
		return true
	}

	ok, err := path.Match(pattern, user)

	return ok && err == nil && !strings.HasPrefix(user, systemPrefix)
}

// maxListed bounds how many names an error lists.
const maxListed = 20

func list(names []string) string {
	switch {
	case len(names) == 0:
		return "none"
	case len(names) > maxListed:
		return fmt.Sprintf("%s and %d more", strings.Join(names[:maxListed], ", "), len(names)-maxListed)
	default:
		return strings.Join(names, ", ")
	}
}
