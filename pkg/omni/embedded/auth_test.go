package embedded_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cosi-project/runtime/api/v1alpha1"
	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/go-api-signature/pkg/message"
	"github.com/siderolabs/go-api-signature/pkg/pgp"
	"github.com/siderolabs/go-api-signature/pkg/serviceaccount"
	"github.com/siderolabs/omni/client/pkg/omni/resources"
	"github.com/siderolabs/omni/client/pkg/omni/resources/auth"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
)

// rawClient is a client that signs nothing by itself.
func rawClient(t *testing.T, s *embedded.Server) v1alpha1.StateClient {
	t.Helper()

	conn, err := grpc.NewClient(strings.TrimPrefix(s.Endpoint(), "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(t, err)
	t.Cleanup(func() { conn.Close() }) //nolint:errcheck

	return v1alpha1.NewStateClient(conn)
}

// signed makes the metadata of a signed request.
func signed(t *testing.T, key *pgp.Key, method string, at time.Time) metadata.MD {
	t.Helper()

	md := metadata.Pairs(message.TimestampHeaderKey, strconv.FormatInt(at.Unix(), 10))

	payload, err := json.Marshal(message.BuildGRPCPayload(md, method))
	must(t, err)

	signature, err := key.Sign(payload)
	must(t, err)

	md.Set(message.PayloadHeaderKey, string(payload))
	md.Set(message.SignatureHeaderKey, fmt.Sprintf("siderov1 someone %s %s", key.Fingerprint(), base64.StdEncoding.EncodeToString(signature)))

	return md
}

func TestSignature(t *testing.T) {
	s := start(t, embedded.Config{NoControllers: true})
	raw := rawClient(t, s)

	account, err := serviceaccount.Decode(s.ServiceAccountKey(embedded.AccountReader))
	must(t, err)

	stranger, err := pgp.GenerateKey("reader", "", "reader@example.com", time.Hour)
	must(t, err)

	const method = v1alpha1.State_Get_FullMethodName

	valid := signed(t, account.Key, method, time.Now())
	with := func(key string, values ...string) metadata.MD {
		md := valid.Copy()
		md.Delete(key)
		md.Append(key, values...)

		return md
	}

	for _, test := range []struct {
		name string
		md   metadata.MD
		want codes.Code
	}{
		{"valid", valid, codes.OK},
		{"valid, sent twice", valid, codes.OK},
		{"four minutes old", signed(t, account.Key, method, time.Now().Add(-4*time.Minute)), codes.OK},
		{"missing", metadata.MD{}, codes.Unauthenticated},
		{"unknown key", signed(t, stranger, method, time.Now()), codes.Unauthenticated},
		{"replayed after six minutes", signed(t, account.Key, method, time.Now().Add(-6*time.Minute)), codes.Unauthenticated},
		{"from the future", signed(t, account.Key, method, time.Now().Add(6*time.Minute)), codes.Unauthenticated},
		{"for another method", signed(t, account.Key, v1alpha1.State_List_FullMethodName, time.Now()), codes.Unauthenticated},
		{"another cluster in the metadata", with("context", "blue"), codes.Unauthenticated},
		{"another timestamp", with(message.TimestampHeaderKey, strconv.FormatInt(time.Now().Unix()+1, 10)), codes.Unauthenticated},
		{"another payload", with(message.PayloadHeaderKey, strings.Replace(valid.Get(message.PayloadHeaderKey)[0], "{", "{ ", 1)), codes.Unauthenticated},
		{"no payload", with(message.PayloadHeaderKey), codes.Unauthenticated},
		{"signature of another key under a known fingerprint", with(message.SignatureHeaderKey, strings.Replace(
			signed(t, stranger, method, time.Now()).Get(message.SignatureHeaderKey)[0], stranger.Fingerprint(), account.Key.Fingerprint(), 1)), codes.Unauthenticated},
		{"empty header", with(message.SignatureHeaderKey, ""), codes.Unauthenticated},
		{"header of one word", with(message.SignatureHeaderKey, "siderov1"), codes.Unauthenticated},
		{"header of three words", with(message.SignatureHeaderKey, "siderov1 reader "+account.Key.Fingerprint()), codes.Unauthenticated},
		{"header of five words", with(message.SignatureHeaderKey, valid.Get(message.SignatureHeaderKey)[0]+" x"), codes.Unauthenticated},
		{"not base64", with(message.SignatureHeaderKey, "siderov1 reader "+account.Key.Fingerprint()+" %"), codes.Unauthenticated},
		{"another version", with(message.SignatureHeaderKey, strings.Replace(valid.Get(message.SignatureHeaderKey)[0], "siderov1", "siderov2", 1)), codes.Unauthenticated},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := raw.Get(metadata.NewOutgoingContext(testContext(t), test.md), &v1alpha1.GetRequest{
				Namespace: resources.DefaultNamespace, Type: omni.TalosVersionType, Id: "1.13.5",
			})
			wantCode(t, err, test.want)

			stream, err := raw.Watch(metadata.NewOutgoingContext(testContext(t), test.md), &v1alpha1.WatchRequest{
				Namespace: resources.DefaultNamespace, Type: omni.TalosVersionType, ApiVersion: 1,
			})
			must(t, err)

			if _, err = stream.Recv(); err == nil { // no signature above is for this method
				t.Error("a watch was let in with the signature of a Get")
			}

			wantCode(t, err, codes.Unauthenticated)
		})
	}
}

func TestMalformedRequestIsAnError(t *testing.T) {
	s := start(t, embedded.Config{NoControllers: true})

	account, err := serviceaccount.Decode(s.ServiceAccountKey(embedded.AccountOperator))
	must(t, err)

	ctx := metadata.NewOutgoingContext(testContext(t), signed(t, account.Key, v1alpha1.State_Create_FullMethodName, time.Now()))

	if _, err = rawClient(t, s).Create(ctx, &v1alpha1.CreateRequest{}); err == nil {
		t.Error("a request without a resource was accepted")
	}
}

func TestRoles(t *testing.T) {
	s := start(t, embedded.Config{NoControllers: true})
	must(t, s.State().Create(testContext(t), newCluster("there")))

	policy := auth.NewAccessPolicy()

	for _, test := range []struct {
		account string
		do      string
		call    func(ctx context.Context, st state.State) error
		want    codes.Code
	}{
		{embedded.AccountReader, "reads a cluster", getOf(omni.NewCluster("there")), codes.OK},
		{embedded.AccountReader, "reads a missing cluster", getOf(omni.NewCluster("nowhere")), codes.NotFound},
		{embedded.AccountReader, "lists machine sets", listOf(omni.MachineSetType), codes.OK},
		{embedded.AccountReader, "lists secrets", listOf(omni.ClusterSecretsType), codes.PermissionDenied},
		{embedded.AccountReader, "lists policies", listOf(auth.AccessPolicyType), codes.PermissionDenied},
		{embedded.AccountReader, "creates a cluster", createOf(newCluster("new")), codes.PermissionDenied},
		{embedded.AccountReader, "tears a cluster down", teardownOf(newCluster("there")), codes.PermissionDenied},
		{embedded.AccountReader, "destroys a missing cluster", destroyOf(newCluster("nowhere")), codes.PermissionDenied},
		{embedded.AccountOperator, "creates a cluster", createOf(newCluster("mine")), codes.OK},
		{embedded.AccountOperator, "creates machine labels", createOf(omni.NewMachineLabels("m")), codes.OK},
		{embedded.AccountOperator, "creates a status", createOf(omni.NewClusterStatus("mine")), codes.PermissionDenied},
		{embedded.AccountOperator, "creates a Talos version", createOf(omni.NewTalosVersion("9.9.9")), codes.PermissionDenied},
		{embedded.AccountOperator, "creates a policy", createOf(policy), codes.PermissionDenied},
		{embedded.AccountOperator, "creates with an owner", func(ctx context.Context, st state.State) error {
			return st.Create(ctx, newCluster("owned"), state.WithCreateOwner("me"))
		}, codes.OK},
		{embedded.AccountAdmin, "lists policies", listOf(auth.AccessPolicyType), codes.OK},
		{embedded.AccountAdmin, "creates a policy", createOf(policy), codes.OK},
		{embedded.AccountAdmin, "lists secrets", listOf(omni.ClusterSecretsType), codes.PermissionDenied},
	} {
		t.Run(test.account+" "+test.do, func(t *testing.T) {
			wantCode(t, test.call(testContext(t), dial(t, s, test.account).Omni().State()), test.want)
		})
	}
}

func TestAccountOfSomeClusters(t *testing.T) {
	s := start(t, embedded.Config{NoControllers: true, Accounts: []embedded.Account{
		{Name: "blue-team", Role: embedded.RoleOperator, Clusters: []string{"blue"}},
	}})
	st := dial(t, s, "blue-team").Omni().State()

	patches := resource.NewMetadata(resources.DefaultNamespace, omni.ConfigPatchType, "", resource.VersionUndefined)
	watch := func(opts ...state.WatchKindOption) error {
		return st.WatchKind(testContext(t), patches, make(chan state.Event), opts...)
	}

	must(t, st.Create(testContext(t), newCluster("blue")))
	must(t, st.Create(testContext(t), newPatch("blue", "blue-patch")))
	must(t, watch(state.WatchWithLabelQuery(resource.LabelEqual(omni.LabelCluster, "blue"))))

	_, err := st.List(testContext(t), patches, state.WithLabelQuery(resource.LabelEqual(omni.LabelCluster, "blue")))
	must(t, err)

	wantCode(t, watch(), codes.PermissionDenied)
	wantCode(t, watch(state.WatchWithLabelQuery(resource.LabelEqual(omni.LabelCluster, "red"))), codes.PermissionDenied)
	wantCode(t, watch(state.WatchWithLabelQuery(resource.LabelExists(omni.LabelCluster))), codes.PermissionDenied)
	wantCode(t, st.Create(testContext(t), newCluster("red")), codes.PermissionDenied)
	wantCode(t, getOf(omni.NewTalosVersion("1.13.5"))(testContext(t), st), codes.OK)

	patch, err := st.Get(testContext(t), newPatch("blue", "blue-patch").Metadata())
	must(t, err)
	patch.Metadata().Labels().Set(omni.LabelCluster, "red")
	wantCode(t, st.Update(testContext(t), patch), codes.PermissionDenied)
}

func getOf(res resource.Resource) func(context.Context, state.State) error {
	return func(ctx context.Context, st state.State) error {
		_, err := st.Get(ctx, res.Metadata())

		return err
	}
}

func listOf(typ resource.Type) func(context.Context, state.State) error {
	return func(ctx context.Context, st state.State) error {
		_, err := st.List(ctx, resource.NewMetadata(resources.DefaultNamespace, typ, "", resource.VersionUndefined))

		return err
	}
}

func createOf(res resource.Resource) func(context.Context, state.State) error {
	return func(ctx context.Context, st state.State) error { return st.Create(ctx, res.DeepCopy()) }
}

func teardownOf(res resource.Resource) func(context.Context, state.State) error {
	return func(ctx context.Context, st state.State) error {
		_, err := st.Teardown(ctx, res.Metadata())

		return err
	}
}

func destroyOf(res resource.Resource) func(context.Context, state.State) error {
	return func(ctx context.Context, st state.State) error { return st.Destroy(ctx, res.Metadata()) }
}

func TestTLS(t *testing.T) {
	s := start(t, embedded.Config{TLS: true, NoControllers: true})

	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(s.CA()) {
		t.Fatalf("CA is no certificate: %s", s.CA())
	}

	connect := func(roots *x509.CertPool) error {
		conn, err := grpc.NewClient(strings.TrimPrefix(s.Endpoint(), "https://"), grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots})))
		must(t, err)

		defer conn.Close() //nolint:errcheck

		_, err = v1alpha1.NewStateClient(conn).Get(testContext(t), &v1alpha1.GetRequest{})

		return err
	}

	wantCode(t, connect(pool), codes.Unauthenticated) // TLS is fine, there is no signature
	wantCode(t, connect(x509.NewCertPool()), codes.Unavailable)
}
