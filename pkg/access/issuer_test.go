package access_test

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/siderolabs/omni/client/pkg/client/management"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc/codes"

	"github.com/omni-syncd/omni-syncd/pkg/access"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
	"github.com/omni-syncd/omni-syncd/test/daemon"
)

// template is one of a small cluster.
func template(name, extra string) *fstest.MapFile {
	return &fstest.MapFile{Data: []byte("kind: Cluster\nname: " + name + "\n" + extra + "kubernetes: {version: v1.34.3}\ntalos: {version: v1.12.0}\n---\nkind: ControlPlane\nmachines: []\n")}
}

// logs records everything that is logged, down to debug.
func logs() (*zap.Logger, *observer.ObservedLogs) {
	core, recorded := observer.New(zap.DebugLevel)

	return zap.New(core), recorded
}

var tokenPattern = regexp.MustCompile(`token: (\S+)`)

// tokenOf returns the token of a kubeconfig.
func tokenOf(t *testing.T, data []byte) string {
	t.Helper()

	found := tokenPattern.FindSubmatch(data)
	if found == nil {
		t.Fatalf("there is no token in\n%s", data)
	}

	return string(found[1])
}

// noSecret fails if a token, or a part of one, was logged.
func noSecret(t *testing.T, recorded *observer.ObservedLogs, tokens ...string) {
	t.Helper()

	for _, entry := range recorded.All() {
		text := entry.Message
		for _, field := range entry.ContextMap() {
			text += " " + strings.TrimSpace(strings.ReplaceAll(sprint(field), "\n", " "))
		}

		for _, token := range append(tokens, "apiVersion", "oidc-login") {
			for part := range strings.SplitSeq(token, ".") {
				if strings.Contains(text, part) {
					t.Errorf("logged: %s", text)
				}
			}
		}
	}
}

// started is a daemon with the clusters a, and manual, which waits.
func started(t *testing.T) (*daemon.Omni, *daemon.Daemon) {
	t.Helper()

	o := daemon.StartOmni(t, embedded.Config{NoControllers: true})
	d := daemon.Start(t, o, nil)
	d.Apply(t, fstest.MapFS{"a.yaml": template("a", ""), "m.yaml": template("manual", "annotations: {omni-syncd/sync: manual}\n")})

	return o, d
}

// What is issued is what upstream's client returns for the same request.
func TestIssuer_AsUpstream(t *testing.T) {
	t.Parallel()

	o, d := started(t)
	log, recorded := logs()
	issuer := access.NewIssuer(access.IssuerConfig{
		Omni: o.Conn, Clusters: d, Logger: log, ServiceAccounts: &access.ServiceAccountPolicy{MaxTTL: time.Hour, Users: []string{"ci-*"}, Groups: []string{"deployers"}},
	})
	upstream := o.Conn.Management().WithCluster("a")

	for grant, opts := range map[string][]management.KubeconfigOption{"": nil, "authcode-keyboard": {management.WithGrantType("authcode-keyboard")}} {
		got, err := issuer.Kubeconfig(t.Context(), access.Request{Cluster: "a", GrantType: grant})
		must(t, err)
		want, err := upstream.Kubeconfig(t.Context(), opts...)
		must(t, err)
		same(t, "kubeconfig", string(want), string(got))
	}

	got, err := issuer.Talosconfig(t.Context(), daemon.Source, "a")
	must(t, err)
	want, err := upstream.Talosconfig(t.Context())
	must(t, err)
	same(t, "talosconfig", string(want), string(got))

	// No two tokens are equal: all around them is.
	got, err = issuer.Kubeconfig(t.Context(), access.Request{Cluster: "a", ServiceAccount: &access.ServiceAccount{User: "ci-1", Groups: []string{"deployers"}, TTL: time.Hour}})
	must(t, err)
	want, err = upstream.Kubeconfig(t.Context(), management.WithServiceAccount(time.Hour, "ci-1", "deployers"))
	must(t, err)
	same(t, "with a token", tokenPattern.ReplaceAllString(string(want), "token"), tokenPattern.ReplaceAllString(string(got), "token"))

	noSecret(t, recorded, tokenOf(t, got))

	if recorded.FilterMessage("issued a kubeconfig with a token").Len() != 1 {
		t.Error("nobody is told that a token was issued")
	}
}

func TestIssuer_Errors(t *testing.T) {
	t.Parallel()

	o, d := started(t)
	issuer := access.NewIssuer(access.IssuerConfig{Omni: o.Conn, Clusters: d})

	kubeconfig := func(req access.Request) error {
		data, err := issuer.Kubeconfig(t.Context(), req)
		if err != nil && data != nil {
			t.Error("an error, and a kubeconfig")
		}

		return err
	}
	account := func(user string, ttl time.Duration, groups ...string) *access.ServiceAccount {
		return &access.ServiceAccount{User: user, TTL: ttl, Groups: groups}
	}

	for name, test := range map[string]struct {
		err  error
		kind access.Kind
		word string
	}{
		"unknown":            {kubeconfig(access.Request{Cluster: "b"}), access.NotFound, `no source manages a cluster "b"`},
		"unknown source":     {kubeconfig(access.Request{Source: "x", Cluster: "a"}), access.NotFound, `the source "x" manages no cluster "a"`},
		"no cluster":         {kubeconfig(access.Request{}), access.Invalid, "name a cluster"},
		"not there":          {kubeconfig(access.Request{Cluster: "manual"}), access.NotYet, "on request only"},
		"grant type":         {kubeconfig(access.Request{Cluster: "a", GrantType: "x"}), access.Invalid, "authcode-keyboard"},
		"login and token":    {kubeconfig(access.Request{Cluster: "a", GrantType: "auto", ServiceAccount: account("ci", 1)}), access.Invalid, "grant type"},
		"no policy":          {kubeconfig(access.Request{Cluster: "a", ServiceAccount: account("ci", 1)}), access.Denied, "access.serviceAccounts"},
		"no user":            {kubeconfig(access.Request{Cluster: "a", ServiceAccount: account("", 1)}), access.Invalid, "user"},
		"odd user":           {kubeconfig(access.Request{Cluster: "a", ServiceAccount: account("a\nb", 1)}), access.Invalid, "printable"},
		"long user":          {kubeconfig(access.Request{Cluster: "a", ServiceAccount: account(strings.Repeat("a", 254), 1)}), access.Invalid, "printable"},
		"empty group":        {kubeconfig(access.Request{Cluster: "a", ServiceAccount: account("a", 1, "")}), access.Invalid, "group"},
		"many groups":        {kubeconfig(access.Request{Cluster: "a", ServiceAccount: account("a", 1, make([]string, 65)...)}), access.Invalid, "64"},
		"no time to live":    {kubeconfig(access.Request{Cluster: "a", ServiceAccount: account("a", 0)}), access.Invalid, "ttl"},
		"negative life":      {kubeconfig(access.Request{Cluster: "a", ServiceAccount: account("a", -1)}), access.Invalid, "ttl"},
		"the account's role": {refused(t, o, d), access.Refused, "Operator"},
	} {
		t.Run(name, func(t *testing.T) {
			fails(t, test.err, test.word)
			same(t, "kind", test.kind, access.KindOf(test.err))
		})
	}

	_, err := issuer.Kubeconfig(ended(), access.Request{Cluster: "a"})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a request that ended: %v", err)
	}

	o.Faults().Add(embedded.Fault{Match: embedded.Match{Verb: "Talosconfig"}, Code: codes.Unavailable})

	_, err = issuer.Talosconfig(t.Context(), "", "a")
	fails(t, err, "no talosconfig of the cluster a from Omni")
	same(t, "Omni is away", access.Unavailable, access.KindOf(err))
}

// What cannot be told now is not told to be missing, and can be asked for again.
func TestIssuer_Unread(t *testing.T) {
	t.Parallel()

	s := newScript()
	s.clusters["a"] = &sync.NotYetError{Cluster: "a", Reason: "Omni was not read completely", Unread: true}
	s.clusters["b"] = &sync.NotYetError{Cluster: "b", Reason: "it is being destroyed"}
	issuer := access.NewIssuer(access.IssuerConfig{Clusters: s})

	_, err := issuer.Kubeconfig(t.Context(), access.Request{Cluster: "a"})
	fails(t, err, `it cannot be told now whether a source manages the cluster "a"`, "Omni was not read completely")
	same(t, "kind", access.Unavailable, access.KindOf(err))

	if strings.Contains(err.Error(), "not there") {
		t.Error(err)
	}

	_, err = issuer.Talosconfig(t.Context(), "", "b")
	fails(t, err, "is not there yet", "it is being destroyed")
	same(t, "kind", access.NotYet, access.KindOf(err))
}

// refused asks as a Reader for a token.
func refused(t *testing.T, o *daemon.Omni, d *daemon.Daemon) error {
	t.Helper()

	issuer := access.NewIssuer(access.IssuerConfig{
		Omni: dial(t, o, embedded.AccountReader), Clusters: d, ServiceAccounts: &access.ServiceAccountPolicy{MaxTTL: time.Hour, Users: []string{"*"}},
	})
	_, err := issuer.Kubeconfig(t.Context(), access.Request{Cluster: "a", ServiceAccount: &access.ServiceAccount{User: "ci", TTL: time.Hour}})

	return err
}

func TestServiceAccountPolicy(t *testing.T) {
	t.Parallel()

	policy := access.ServiceAccountPolicy{
		MaxTTL: time.Hour, Users: []string{"ci-*", "jane", "*:reader", "system:serviceaccount:ops:bot"}, Groups: []string{"deployers", "system:masters"},
	}
	must(t, policy.Validate())

	issuer := access.NewIssuer(access.IssuerConfig{ServiceAccounts: &policy})

	for _, test := range []struct {
		user   string
		groups []string
		ttl    time.Duration
		denied string // "" is allowed
	}{
		{"ci-1", []string{"deployers"}, time.Hour, ""},
		{"ci-", nil, time.Second, ""},
		{"jane", []string{"system:masters", "deployers"}, time.Minute, ""},
		{"system:serviceaccount:ops:bot", nil, time.Minute, ""},
		{"team:reader", nil, time.Minute, ""},
		{"system:reader", nil, time.Minute, "without a wildcard"},
		{"system:serviceaccount:ops:other", nil, time.Minute, "allows ci-*, jane"},
		{"CI-1", nil, time.Minute, "no token for the user"},
		{"ci-1/2", nil, time.Minute, "no token for the user"},
		{"janet", nil, time.Minute, "no token for the user"},
		{"jane", []string{"deployers", "admins"}, time.Minute, `the group "admins"`},
		{"jane", []string{"deployer"}, time.Minute, "allows deployers, system:masters"},
		{"jane", []string{"Deployers"}, time.Minute, "no token with the group"},
		{"jane", nil, time.Hour + 1, "allows 1h0m0s"},
	} {
		err := issuer.Check(access.Request{ServiceAccount: &access.ServiceAccount{User: test.user, Groups: test.groups, TTL: test.ttl}})

		if test.denied == "" {
			if err != nil {
				t.Errorf("%+v: %v", test, err)
			}

			continue
		}

		fails(t, err, test.denied, "access.serviceAccounts")
		same(t, "kind", access.Denied, access.KindOf(err))
	}

	for word, policy := range map[string]access.ServiceAccountPolicy{
		"maxTTL":   {Users: []string{"a"}},
		"users":    {MaxTTL: 1},
		"glob":     {MaxTTL: 1, Users: []string{"[a"}},
		"name":     {MaxTTL: 1, Users: []string{""}},
		"a whole":  {MaxTTL: 1, Users: []string{"system:*"}},
		"wildcard": {MaxTTL: 1, Users: []string{"a"}, Groups: []string{"*"}},
	} {
		fails(t, policy.Validate(), word)
	}

	must(t, (*access.ServiceAccountPolicy)(nil).Validate())
}

var _ access.Engine = (*sync.Engine)(nil)
