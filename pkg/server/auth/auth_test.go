package auth

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"
)

func TestGrants(t *testing.T) {
	some := []string{"prod-*", "edge-[0-9]"}

	for _, test := range []struct {
		name    string
		grant   Grant
		role    Role
		cluster string
		want    bool
	}{
		{"the same role", Grant{Viewer, some}, Viewer, "prod-1", true},
		{"another glob", Grant{Viewer, some}, Viewer, "edge-7", true},
		{"another cluster", Grant{Viewer, some}, Viewer, "test", false},
		{"part of a name", Grant{Viewer, some}, Viewer, "xprod-1", false},
		{"a slash", Grant{Viewer, some}, Viewer, "prod-1/x", false},
		{"operator views", Grant{Operator, some}, Viewer, "prod-1", true},
		{"operator views its own clusters only", Grant{Operator, some}, Viewer, "test", false},
		{"viewer does not operate", Grant{Viewer, nil}, Operator, "prod-1", false},
		{"viewer has no access", Grant{Viewer, nil}, Access, "prod-1", false},
		{"operator has no access", Grant{Operator, nil}, Access, "prod-1", false},
		{"access does not view", Grant{Access, nil}, Viewer, "prod-1", false},
		{"access does not operate", Grant{Access, nil}, Operator, "prod-1", false},
		{"access", Grant{Access, some}, Access, "prod-1", true},
		{"unlimited", Grant{Viewer, nil}, Viewer, "", true},
		{"unlimited operator", Grant{Operator, nil}, Viewer, "", true},
		{"limited is not everything", Grant{Viewer, some}, Viewer, "", false},
		{"all clusters are not everything", Grant{Viewer, []string{"*"}}, Viewer, "", false},
		{"all clusters", Grant{Viewer, []string{"*"}}, Viewer, "x", true},
		{"an empty list is nothing", Grant{Viewer, []string{}}, Viewer, "x", false},
		{"an empty list is not everything", Grant{Viewer, []string{}}, Viewer, "", false},
		{"a malformed glob is nothing", Grant{Viewer, []string{"[x"}}, Viewer, "[x", false},
		{"a role that is none", Grant{"admin", nil}, "admin", "x", false},
		{"no role", Grant{"", nil}, "", "x", false},
		{"a long name", Grant{Viewer, nil}, Viewer, strings.Repeat("x", MaxClusterName+1), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := Granted("token ci", test.grant).May(t.Context(), test.role, test.cluster)

			var denied *DeniedError
			if (err == nil) != test.want || err != nil && !errors.As(err, &denied) {
				t.Errorf("%v, want %v", err, test.want)
			}

			if test.cluster == "" {
				if err := Granted("token ci", test.grant).MayAll(t.Context(), test.role); (err == nil) != test.want {
					t.Errorf("everything: %v, want %v", err, test.want)
				}
			}
		})
	}
}

func TestGrantCheck(t *testing.T) {
	for _, test := range []struct {
		grant Grant
		want  string // "" is no error
	}{
		{Grant{Viewer, nil}, ""},
		{Grant{Access, []string{"*", "a-[^x]?", `\*`}}, ""},
		{Grant{"Viewer", nil}, `the role "Viewer" is unknown: use viewer, operator or access`},
		{Grant{"", nil}, "unknown"},
		{Grant{Viewer, []string{}}, "leave `clusters` out"},
		{Grant{Viewer, []string{""}}, "is empty"},
		{Grant{Viewer, []string{"a", "[b"}}, `"[b" is malformed`},
		{Grant{Viewer, []string{`b\`}}, "malformed"},
		{Grant{Viewer, []string{"a/b"}}, "slash"},
		{Grant{Viewer, []string{strings.Repeat("x", MaxClusterName+1)}}, "254 bytes"},
		{Grant{Viewer, make([]string, MaxGlobs+1)}, "257 globs"},
	} {
		err := test.grant.Check()
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%.60q: %v, want %q", test.grant, err, test.want)
		}
	}
}

// Nothing is allowed to who is nobody.
func TestDeniedByDefault(t *testing.T) {
	for name, caller := range map[string]*Caller{"nil": nil, "zero": {}, "named": {Name: "x"}, "granted nothing": Granted("x")} {
		for _, role := range Roles {
			var denied *DeniedError

			if err := caller.May(t.Context(), role, "a"); !errors.As(err, &denied) {
				t.Errorf("%s: %v", name, err)
			}

			if err := caller.MayAll(t.Context(), role); !errors.As(err, &denied) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}

	if caller, ok := Of(t.Context()); ok || caller != nil {
		t.Error("there is a caller")
	}

	if caller, ok := Of(With(t.Context(), nil)); ok || caller != nil {
		t.Error("nil is a caller")
	}

	owner := Owner("uid 1000 (joe)")
	if caller, ok := Of(With(t.Context(), owner)); !ok || caller != owner {
		t.Error("the caller is lost")
	}

	for _, role := range Roles {
		if err := errors.Join(owner.May(t.Context(), role, "a"), owner.MayAll(t.Context(), role)); err != nil {
			t.Error(err)
		}
	}

	if err := owner.May(t.Context(), "admin", "a"); err == nil {
		t.Error("the owner has a role that does not exist")
	}
}

// Who has to prove anew who it is may nothing until then.
func TestCallerExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		caller := Granted("x", Grant{Role: Viewer})
		caller.Expires = time.Now().Add(time.Minute)

		time.Sleep(time.Minute - 1)

		if err := caller.May(t.Context(), Viewer, "a"); err != nil {
			t.Error(err)
		}

		time.Sleep(time.Nanosecond)

		var expired *ExpiredError
		if err := caller.May(t.Context(), Viewer, "a"); !errors.As(err, &expired) {
			t.Error(err)
		}
	})
}

func TestErrors(t *testing.T) {
	for _, test := range []struct {
		err  error
		code connect.Code
		text string
	}{
		{Granted("token ci").May(t.Context(), Access, "prod"), connect.CodePermissionDenied, `token ci lacks the role access for the cluster "prod": whoever runs omni-syncd can grant it`},
		{Granted("token ci").MayAll(t.Context(), Viewer), connect.CodePermissionDenied, "token ci lacks the role viewer for everything (fleet resources and all clusters): whoever"},
		{(*Caller)(nil).May(t.Context(), Viewer, "\n"), connect.CodePermissionDenied, `nobody lacks the role viewer for the cluster "\n"`},
		{&ExpiredError{"token ci", time.Unix(0, 0)}, connect.CodeUnauthenticated, "token ci expired at 1970-01-01T00:00:00Z: get a new one"},
		{ErrUnknown, connect.CodeUnauthenticated, "not known"},
		{&UnavailableError{"the issuer", context.DeadlineExceeded}, connect.CodeUnavailable, "the issuer cannot be asked now: context deadline exceeded; try again"},
	} {
		if got := ConnectError(test.err); got.Code() != test.code || !strings.Contains(got.Message(), test.text) {
			t.Errorf("%v, want %s %q", got, test.code, test.text)
		}
	}
}
