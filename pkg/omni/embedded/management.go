package embedded

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/cosi-project/runtime/pkg/safe"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/go-api-signature/pkg/message"
	"github.com/siderolabs/omni/client/api/omni/management"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"gopkg.in/yaml.v3"
)

// instance is the name of this Omni, which begins the names of clusters and contexts in a kubeconfig.
const instance = "embedded"

// maxServiceAccountTTL is Omni's bound for the life of a kubeconfig's token.
const maxServiceAccountTTL = 10 * 365 * 24 * time.Hour

// managementServer is the part of ManagementService that needs no machine. The rest answers Unimplemented.
type managementServer struct {
	management.UnimplementedManagementServiceServer

	st       state.State
	endpoint string
}

// Kubeconfig implements management.ManagementServiceServer. The default holds no secret: it runs an OIDC login.
func (m *managementServer) Kubeconfig(ctx context.Context, req *management.KubeconfigRequest) (*management.KubeconfigResponse, error) {
	if req.GetBreakGlass() {
		return nil, errBreakGlass
	}

	cluster := contextCluster(ctx)
	if err := allow(ctx, false, omni.ClusterType, cluster); err != nil {
		return nil, err
	}

	name, user := instance+"-"+cluster, instance+"-"+cluster+"-"+caller(ctx).identity()
	credentials := map[string]any{"exec": map[string]any{
		"apiVersion":         "client.authentication.k8s.io/v1",
		"command":            "kubectl",
		"env":                nil,
		"interactiveMode":    "IfAvailable",
		"provideClusterInfo": false,
		"args":               m.loginArgs(cluster, req),
	}}

	if req.GetServiceAccount() {
		token, err := m.serviceAccountToken(ctx, cluster, req)
		if err != nil {
			return nil, err
		}

		name = name + "-" + req.GetServiceAccountUser()
		user = name
		credentials = map[string]any{"token": token}
	} else if !slices.Contains([]string{"", "auto", "authcode", "authcode-keyboard"}, req.GetGrantType()) {
		return nil, status.Errorf(codes.InvalidArgument, "unknown grant type %q", req.GetGrantType())
	}

	data, err := yaml.Marshal(map[string]any{
		"apiVersion":      "v1",
		"kind":            "Config",
		"current-context": name,
		"clusters":        []any{map[string]any{"name": name, "cluster": map[string]any{"server": m.endpoint}}},
		"contexts":        []any{map[string]any{"name": name, "context": map[string]any{"cluster": name, "namespace": "default", "user": user}}},
		"users":           []any{map[string]any{"name": user, "user": credentials}},
	})

	return &management.KubeconfigResponse{Kubeconfig: data}, err
}

var errBreakGlass = status.Error(codes.PermissionDenied, "break-glass configs are switched off")

func (m *managementServer) loginArgs(cluster string, req *management.KubeconfigRequest) []string {
	args := []string{
		"oidc-login", "get-token",
		"--oidc-issuer-url=" + m.endpoint + "/oidc", "--oidc-client-id=native", "--oidc-extra-scope=cluster:" + cluster,
	}

	if req.GetGrantType() != "" {
		args = append(args, "--grant-type="+req.GetGrantType())
	}

	if req.GetOidcCacheBaseDir() != "" {
		args = append(args, "--token-cache-dir="+req.GetOidcCacheBaseDir())
	}

	return args
}

// serviceAccountToken makes a token that looks like Omni's. No cluster takes it: there is none.
func (m *managementServer) serviceAccountToken(ctx context.Context, cluster string, req *management.KubeconfigRequest) (string, error) {
	if err := allow(ctx, true, omni.ClusterType, cluster); err != nil {
		return "", err
	}

	ttl := req.GetServiceAccountTtl().AsDuration()

	switch {
	case cluster == "":
		return "", status.Error(codes.InvalidArgument, "the request names no cluster in its metadata")
	case req.GetServiceAccountUser() == "":
		return "", status.Error(codes.InvalidArgument, "the service account has no user")
	case ttl <= 0 || ttl > maxServiceAccountTTL:
		return "", status.Errorf(codes.InvalidArgument, "the service account's ttl must be more than 0 and at most %s", maxServiceAccountTTL)
	}

	if _, err := safe.StateGetByID[*omni.Cluster](ctx, m.st, cluster); err != nil {
		return "", fmt.Errorf("cluster %q: %w", cluster, err) // Omni gives it no code either
	}

	now := time.Now()

	claims, err := json.Marshal(map[string]any{
		"iss": "omni-" + instance + "-service-account-issuer", "sub": req.GetServiceAccountUser(), "groups": req.GetServiceAccountGroups(),
		"cluster": cluster, "iat": now.Unix(), "exp": now.Add(ttl).Unix(),
	})
	if err != nil {
		return "", err
	}

	encode := base64.RawURLEncoding.EncodeToString
	signed := encode([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + encode(claims)

	key := make([]byte, sha256.Size)
	if _, err = rand.Read(key); err != nil {
		return "", fmt.Errorf("make a key for the token: %w", err)
	}

	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(signed))

	return signed + "." + encode(mac.Sum(nil)), nil
}

// Talosconfig implements management.ManagementServiceServer. It holds no secret: Omni checks the user's own key.
func (m *managementServer) Talosconfig(ctx context.Context, req *management.TalosconfigRequest) (*management.TalosconfigResponse, error) {
	if req.GetBreakGlass() || req.GetRaw() {
		return nil, errBreakGlass
	}

	cluster := contextCluster(ctx)
	if err := allow(ctx, false, omni.ClusterType, cluster); err != nil {
		return nil, err
	}

	name := instance
	content := map[string]any{
		"endpoints": []string{m.endpoint},
		"auth":      map[string]any{"siderov1": map[string]any{"identity": caller(ctx).identity()}},
	}

	if cluster != "" {
		name += "-" + cluster
		content["cluster"] = cluster
	}

	data, err := yaml.Marshal(map[string]any{"context": name, "contexts": map[string]any{name: content}})

	return &management.TalosconfigResponse{Talosconfig: data}, err
}

// KubernetesUpgradePreChecks implements management.ManagementServiceServer: every upgrade that a write would accept is fine, once the
// cluster has run a Kubernetes.
func (m *managementServer) KubernetesUpgradePreChecks(
	ctx context.Context, req *management.KubernetesUpgradePreChecksRequest,
) (*management.KubernetesUpgradePreChecksResponse, error) {
	cluster := contextCluster(ctx)
	if err := allow(ctx, true, omni.ClusterType, cluster); err != nil {
		return nil, err
	}

	upgrade, err := safe.StateGetByID[*omni.KubernetesUpgradeStatus](ctx, m.st, cluster)
	if err != nil {
		return nil, fmt.Errorf("cluster %q: %w", cluster, err) // Omni gives it no code either
	}

	current := upgrade.TypedSpec().Value.GetLastUpgradeVersion()
	if current == "" {
		return nil, status.Error(codes.FailedPrecondition, "the cluster's version of Kubernetes is not known yet")
	}

	if err = (rules{st: m.st}).kubernetesPath(ctx, cluster, current, req.GetNewVersion()); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}

	return &management.KubernetesUpgradePreChecksResponse{Ok: true}, nil
}

// contextCluster returns the cluster that a management request is about, or "".
func contextCluster(ctx context.Context) string {
	md, _ := metadata.FromIncomingContext(ctx)
	if values := md.Get(message.ContextHeaderKey); len(values) > 0 {
		return values[0]
	}

	return ""
}
