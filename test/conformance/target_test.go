// Package conformance holds the embedded Omni to the real one: one suite of what a client sees, run against the embedded
// Omni by default and against a real one when OMNI_ENDPOINT and OMNI_SERVICE_ACCOUNT_KEY are set. A row that passes on
// one and fails on the other is a drift: correct pkg/omni/embedded, or, where that is not worth it, its documentation and
// the row.
//
// Everything a test makes begins with a random prefix and is removed at its end, so that the suite can share an Omni with
// others. It needs no machines, and names only machines that never existed. What it needs the role Admin for it skips
// without. SSL_CERT_FILE is Go's own, for an Omni with a private certificate.
package conformance

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/go-api-signature/pkg/pgp"
	"github.com/siderolabs/go-api-signature/pkg/serviceaccount"
	"github.com/siderolabs/omni/client/pkg/access"
	"google.golang.org/grpc/codes"

	"github.com/omni-syncd/omni-syncd/pkg/omni"
	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
)

const (
	envEndpoint = "OMNI_ENDPOINT"
	envKey      = "OMNI_SERVICE_ACCOUNT_KEY"

	// deadline of everything a test waits for; a test that meets it has failed.
	deadline = time.Minute

	// step of the embedded controllers: short, so that a cluster lives fast.
	step = 5 * time.Millisecond
)

// Roles by Omni's names; the embedded Omni has an account for each.
const (
	roleNone     = "None"
	roleReader   = "Reader"
	roleOperator = "Operator"
)

// limited is the embedded Omni's account that is an Operator in one cluster; limitedPrefix begins the cluster's name.
const limited = "limited"

var limitedPrefix = "conf-" + random(4)

// target is the Omni under test.
var target struct {
	endpoint string
	key      string           // of an Admin, if the tests of roles are to run
	server   *embedded.Server // nil for a real Omni
}

// initialMachine is known to the embedded Omni from the start and in no cluster.
const initialMachine = "conformance-machine"

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)

		code = 1
	}

	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	target.endpoint, target.key = os.Getenv(envEndpoint), os.Getenv(envKey)
	if target.endpoint != "" {
		return m.Run(), nil
	}

	server, err := embedded.New(embedded.Config{
		Step:     step,
		Machines: []embedded.Machine{{ID: initialMachine}},
		Accounts: []embedded.Account{
			{Name: roleNone, Role: embedded.RoleNone},
			{Name: limited, Role: embedded.RoleOperator, Clusters: []string{limitedPrefix + "-blue"}},
		},
	})
	if err != nil {
		return 0, err
	}

	target.server, target.endpoint, target.key = server, server.Endpoint(), server.ServiceAccountKey(embedded.AccountAdmin)

	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)

	go func() { done <- server.Run(ctx) }()

	code := m.Run()

	stop()

	return code, <-done
}

// tenant is one test's part of the Omni under test.
type tenant struct {
	*catalogue

	t      *testing.T
	conn   *omni.Conn
	st     state.State // as the account of OMNI_SERVICE_ACCOUNT_KEY
	prefix string      // begins the ID of everything the test makes
}

// newTenant connects, and removes what the test made when it ends.
func newTenant(t *testing.T) *tenant {
	t.Helper()

	conn := dial(t, target.key)
	o := &tenant{t: t, conn: conn, st: conn.State(), prefix: "conf-" + random(4), catalogue: readCatalogue(t, conn.State())}

	t.Cleanup(o.removeAll)

	return o
}

// id is a name that nobody else uses.
func (o *tenant) id(name string) string { return o.prefix + "-" + name }

func dial(t *testing.T, key string) *omni.Conn {
	t.Helper()

	conn, err := omni.Dial(omni.ConnConfig{Endpoint: target.endpoint, ServiceAccountKey: key, UserAgent: "omni-syncd/conformance"})
	must(t, err)
	t.Cleanup(func() { conn.Close() }) //nolint:errcheck // nothing is lost with a connection

	return conn
}

// as connects with an account of a role; on a real Omni it is made for the test, which takes an Admin.
func (o *tenant) as(role string) *omni.Conn {
	o.t.Helper()

	if target.server != nil {
		account := map[string]string{roleNone: roleNone, roleReader: embedded.AccountReader, roleOperator: embedded.AccountOperator}[role]

		return dial(o.t, target.server.ServiceAccountKey(account))
	}

	_, token := o.newAccount(role)

	return dial(o.t, token)
}

// newAccount makes a service account on a real Omni for as long as the test runs.
func (o *tenant) newAccount(role string) (name, token string) {
	o.t.Helper()

	name = o.id("as-" + random(2))
	key, token := newKey(o.t, name)

	public, err := key.ArmorPublic()
	must(o.t, err)

	_, err = o.conn.Management().CreateServiceAccount(testContext(o.t), name, public, role, false)
	if codeOf(err) == codes.PermissionDenied {
		o.t.Skip("only an Admin can make service accounts")
	}

	must(o.t, err)

	o.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), deadline)
		defer cancel()

		if err := o.conn.Management().DestroyServiceAccount(ctx, name); err != nil {
			o.t.Errorf("remove the service account %s: %v", name, err)
		}
	})

	return name, token
}

// newKey makes the key of a service account, unknown to any Omni, and the form that OMNI_SERVICE_ACCOUNT_KEY takes.
func newKey(t *testing.T, name string) (*pgp.Key, string) {
	t.Helper()

	key, err := pgp.GenerateKey(name, "automation", name+access.ServiceAccountNameSuffix, time.Hour)
	must(t, err)

	token, err := serviceaccount.Encode(name, key)
	must(t, err)

	return key, token
}

func random(bytes int) string {
	b := make([]byte, bytes)
	_, _ = rand.Read(b)

	return hex.EncodeToString(b)
}

func testContext(t *testing.T) context.Context {
	t.Helper()

	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	t.Cleanup(cancel)

	return ctx
}

func must(t *testing.T, err error) {
	t.Helper()

	if err != nil {
		t.Fatal(err)
	}
}
