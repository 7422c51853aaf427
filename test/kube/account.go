package kube

import (
	"fmt"
	"slices"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// tokenTime is how long a token is good for.
const tokenTime = int64(time.Hour / time.Second)

// Account is a ServiceAccount and a token for it.
type Account struct {
	// Namespace and Name are those of the ServiceAccount.
	Namespace, Name string
	// Token is a bearer token of it, for an hour.
	Token string

	cluster *Cluster
	grants  int
}

// Account makes a ServiceAccount that may do what the rules say in its namespace, and
// nothing else.
func (c *Cluster) Account(t testing.TB, namespace, name string, rules ...rbacv1.PolicyRule) *Account {
	t.Helper()

	accounts := c.Core(t).ServiceAccounts(namespace)
	if _, err := accounts.Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}

	a := &Account{Namespace: namespace, Name: name, cluster: c}
	a.Renew(t)
	a.Allow(t, namespace, rules...)

	return a
}

// Renew takes another token.
func (a *Account) Renew(t testing.TB) {
	t.Helper()

	a.Token = a.request(t)
}

func (a *Account) request(t testing.TB, audiences ...string) string {
	t.Helper()

	seconds := tokenTime

	answer, err := a.cluster.Core(t).ServiceAccounts(a.Namespace).CreateToken(t.Context(), a.Name,
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds, Audiences: audiences}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}

	return answer.Status.Token
}

// TokenFor returns a token of the account that is for somebody else than the apiserver.
func (a *Account) TokenFor(t testing.TB, audience string) string {
	t.Helper()

	return a.request(t, audience)
}

// Allow lets the account do more in a namespace, or in all of them and beside them if that
// is "". It waits until the apiserver knows.
func (a *Account) Allow(t testing.TB, namespace string, rules ...rbacv1.PolicyRule) {
	t.Helper()

	if len(rules) == 0 {
		return
	}

	a.grants++

	var (
		err     error
		meta    = metav1.ObjectMeta{Name: fmt.Sprintf("%s-%s-%d", a.Namespace, a.Name, a.grants)}
		subject = []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: a.Namespace, Name: a.Name}}
		client  = a.cluster.rbac(t)
	)

	if namespace == "" {
		if _, err = client.ClusterRoles().Create(t.Context(), &rbacv1.ClusterRole{ObjectMeta: meta, Rules: rules}, metav1.CreateOptions{}); err == nil {
			role := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: meta.Name}
			_, err = client.ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{ObjectMeta: meta, RoleRef: role, Subjects: subject}, metav1.CreateOptions{})
		}
	} else {
		if _, err = client.Roles(namespace).Create(t.Context(), &rbacv1.Role{ObjectMeta: meta, Rules: rules}, metav1.CreateOptions{}); err == nil {
			role := rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: meta.Name}
			_, err = client.RoleBindings(namespace).Create(t.Context(), &rbacv1.RoleBinding{ObjectMeta: meta, RoleRef: role, Subjects: subject}, metav1.CreateOptions{})
		}
	}

	if err != nil {
		t.Fatal(err)
	}

	for _, rule := range rules {
		for _, attributes := range asked(rule) {
			attributes.Namespace = namespace

			for !a.may(t, attributes) {
				time.Sleep(poll)
			}
		}
	}
}

// asked returns a question for every verb, group and resource of a rule.
func asked(rule rbacv1.PolicyRule) []authorizationv1.ResourceAttributes {
	var all []authorizationv1.ResourceAttributes

	names := rule.ResourceNames
	if len(names) == 0 {
		names = []string{""}
	}

	for _, verb := range rule.Verbs {
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				for _, name := range names {
					all = append(all, authorizationv1.ResourceAttributes{Verb: verb, Group: group, Resource: resource, Name: name})
				}
			}
		}
	}

	return all
}

// may asks the apiserver what it lets the account do.
func (a *Account) may(t testing.TB, attributes authorizationv1.ResourceAttributes) bool {
	t.Helper()

	user := "system:serviceaccount:" + a.Namespace + ":" + a.Name
	groups := []string{"system:serviceaccounts", "system:serviceaccounts:" + a.Namespace, "system:authenticated"}

	answer, err := a.cluster.authorization(t).SubjectAccessReviews().Create(t.Context(),
		&authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{User: user, Groups: slices.Clone(groups), ResourceAttributes: &attributes}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}

	return answer.Status.Allowed
}

// Config returns the access of the account.
func (a *Account) Config() *rest.Config {
	return &rest.Config{Host: a.cluster.URL, TLSClientConfig: rest.TLSClientConfig{CAData: a.cluster.CA}, BearerToken: a.Token, QPS: -1}
}

// Kubeconfig writes a kubeconfig for the account, whose context has its namespace, and
// returns the path.
func (a *Account) Kubeconfig(t testing.TB) string {
	t.Helper()

	return writeKubeconfig(t, a.Config(), a.Namespace)
}
