package auth

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/singleflight"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	authenticationclient "k8s.io/client-go/kubernetes/typed/authentication/v1"
	authorizationclient "k8s.io/client-go/kubernetes/typed/authorization/v1"
	"k8s.io/client-go/rest"
)

const (
	// DefaultAudience is the audience of tokens for omni-syncd: `kubectl create token NAME
	// --audience omni-syncd`.
	DefaultAudience = "omni-syncd"

	// apiGroup and apiResource are what roles of Kubernetes speak of. No such resource exists.
	apiGroup, apiResource, accessSubresource = "omni-syncd", "clusters", "kubeconfig"

	// reviewKept is how long an answer is kept, deniedKept one that says no: who was just given a
	// role wants to use it.
	reviewKept = 10 * time.Second
	deniedKept = 2 * time.Second
	// maxReviews and maxDecisions bound the answers that are kept, maxAsked the
	// requests at the same time, and reviewTimeout one of them.
	maxReviews, maxDecisions, maxAsked = 1024, 16384, 16
	reviewTimeout                      = 10 * time.Second
	// maxSession is how long a request of a caller may last whose token has no time of its own.
	maxSession = time.Hour
)

// KubernetesConfig says which API server to ask.
type KubernetesConfig struct {
	// Reviews and Access are its two endpoints; see [Reviewers].
	Reviews authenticationclient.TokenReviewInterface
	Access  authorizationclient.SubjectAccessReviewInterface
	// Audiences are those that a token may be for. Default: [DefaultAudience]. The API server's own is
	// not among them: with a token for that the daemon could do whatever its caller can.
	Audiences []string
}

// Kubernetes knows the tokens of a Kubernetes API server, and lets its roles decide. In the API
// group `omni-syncd`, on the resource `clusters`, for the whole cluster:
//
//	get                          viewer
//	update                       operator (and viewer)
//	create on clusters/kubeconfig  access
//
// with the name of the cluster as the resource's name (`resourceNames`); without a name it
// is everything.
type Kubernetes struct {
	KubernetesConfig

	flights   singleflight.Group
	slots     chan struct{}
	reviews   *bounded[digest, *identity]
	decisions *bounded[decision, bool]
}

// identity is whom a token belongs to.
type identity struct {
	user authenticationv1.UserInfo
	key  digest    // of user
	ends time.Time // of the token; zero if it does not say
}

// decision is a question that was answered.
type decision struct {
	who               digest
	verb, sub, object string
}

// Reviewers returns the two endpoints of an API server for [KubernetesConfig]. Client-go's own limit of
// five requests a second is lifted: the callers' limits and 16 requests at a time take its place.
func Reviewers(cfg *rest.Config) (authenticationclient.TokenReviewInterface, authorizationclient.SubjectAccessReviewInterface, error) {
	cfg = rest.CopyConfig(cfg)
	cfg.QPS, cfg.Timeout = -1, reviewTimeout
	cfg.ContentType, cfg.AcceptContentTypes = "application/json", "application/json" // also what stands in between can read it

	client, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, nil, fmt.Errorf("connect to the Kubernetes API server: %w", err)
	}

	authentication, err := authenticationclient.NewForConfigAndClient(cfg, client)
	if err != nil {
		return nil, nil, fmt.Errorf("connect to the Kubernetes API server: %w", err)
	}

	authorization, err := authorizationclient.NewForConfigAndClient(cfg, client)
	if err != nil {
		return nil, nil, fmt.Errorf("connect to the Kubernetes API server: %w", err)
	}

	return authentication.TokenReviews(), authorization.SubjectAccessReviews(), nil
}

// NewKubernetes returns the way in.
func NewKubernetes(cfg KubernetesConfig) *Kubernetes {
	if len(cfg.Audiences) == 0 {
		cfg.Audiences = []string{DefaultAudience}
	}

	return &Kubernetes{
		KubernetesConfig: cfg, slots: make(chan struct{}, maxAsked),
		reviews: newBounded[digest, *identity](maxReviews), decisions: newBounded[decision, bool](maxDecisions),
	}
}

// Authenticate implements [Authenticator]. The API server is asked at most once in 10 s for a
// token that is good.
func (k *Kubernetes) Authenticate(ctx context.Context, token string) (*Caller, error) {
	// One that is meant for the token file is nobody else's business.
	if len(token) > MaxToken || strings.HasPrefix(token, tokenPrefix) {
		return nil, ErrUnknown
	}

	sum := digestOf(token)

	if who, ok := k.reviews.get(sum); ok {
		return k.caller(who), nil
	}

	who, err := flight(ctx, k, "token "+string(sum[:]), func(ctx context.Context) (*identity, error) {
		who, err := k.review(ctx, token)
		if err == nil {
			k.reviews.put(sum, who, who.keep())
		}

		return who, err
	})
	if err != nil {
		return nil, err
	}

	return k.caller(who), nil
}

// recall implements recaller.
func (k *Kubernetes) recall(_ context.Context, token string) (*Caller, error) {
	if who, ok := k.reviews.get(digestOf(token)); ok {
		return k.caller(who), nil
	}

	return nil, ErrUnknown
}

func (k *Kubernetes) caller(who *identity) *Caller {
	expires := time.Now().Add(maxSession)
	if !who.ends.IsZero() && who.ends.Before(expires) {
		expires = who.ends
	}

	name := digestOf(who.user.Username) // who.key has the token's own ID in it, and one can have many tokens

	return &Caller{
		Name: "kubernetes " + printable(who.user.Username), Expires: expires, id: "kubernetes " + string(name[:]),
		how: "it needs a ClusterRole with apiGroups [omni-syncd] and either resources [clusters] with the verb get (viewer) or update (operator), or resources [clusters/kubeconfig] with the verb create (access)",
		decides: func(ctx context.Context, role Role, cluster string) (bool, error) {
			return k.decide(ctx, who, role, cluster)
		},
	}
}

// keep is how long the answer holds.
func (w *identity) keep() time.Duration {
	if w.ends.IsZero() {
		return reviewKept
	}

	return min(reviewKept, time.Until(w.ends))
}

// review asks whose token it is.
func (k *Kubernetes) review(ctx context.Context, token string) (*identity, error) {
	review, err := k.Reviews.Create(ctx, &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: k.Audiences},
	}, metav1.CreateOptions{})
	if err != nil {
		return nil, unanswered("tokenreviews", err)
	}

	status := review.Status

	switch {
	case !status.Authenticated:
		return nil, ErrUnknown
	case !slices.ContainsFunc(status.Audiences, func(a string) bool { return slices.Contains(k.Audiences, a) }):
		// A server that does not look at audiences says nothing of them. Its word is not enough.
		return nil, fmt.Errorf("%w: it is for none of the audiences %v", ErrUnknown, k.Audiences)
	case status.User.Username == "" || status.User.Username == "system:anonymous":
		return nil, ErrUnknown
	}

	user, err := json.Marshal(status.User) // maps are sorted
	if err != nil {
		return nil, ErrUnknown
	}

	return &identity{user: status.User, key: sha256.Sum256(user), ends: endOf(token)}, nil
}

// endOf returns when a token ends that is a JWT: the API server said that it is good.
func endOf(token string) time.Time {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return time.Time{}
	}

	var claims struct {
		Expires int64 `json:"exp"`
	}

	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(payload, &claims) != nil || claims.Expires <= 0 {
		return time.Time{}
	}

	return time.Unix(claims.Expires, 0)
}

// decide asks what somebody may.
func (k *Kubernetes) decide(ctx context.Context, who *identity, role Role, cluster string) (bool, error) {
	switch role {
	case Viewer:
		ok, err := k.ask(ctx, who, "get", "", cluster)
		if ok || err != nil {
			return ok, err
		}

		return k.ask(ctx, who, "update", "", cluster)
	case Operator:
		return k.ask(ctx, who, "update", "", cluster)
	case Access:
		return k.ask(ctx, who, "create", accessSubresource, cluster)
	default:
		return false, nil
	}
}

func (k *Kubernetes) ask(ctx context.Context, who *identity, verb, sub, object string) (bool, error) {
	question := decision{who.key, verb, sub, object}

	if ok, known := k.decisions.get(question); known {
		return ok, nil
	}

	return flight(ctx, k, fmt.Sprintf("may %x %s %s %q", who.key, verb, sub, object), func(ctx context.Context) (bool, error) {
		extra := make(map[string]authorizationv1.ExtraValue, len(who.user.Extra))
		for key, value := range who.user.Extra {
			extra[key] = authorizationv1.ExtraValue(value)
		}

		review, err := k.Access.Create(ctx, &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
			User: who.user.Username, UID: who.user.UID, Groups: who.user.Groups, Extra: extra,
			ResourceAttributes: &authorizationv1.ResourceAttributes{
				Group: apiGroup, Resource: apiResource, Subresource: sub, Verb: verb, Name: object,
			},
		}}, metav1.CreateOptions{})
		if err != nil {
			return false, unanswered("subjectaccessreviews", err)
		}

		ok := review.Status.Allowed && !review.Status.Denied

		keep := reviewKept
		if !ok {
			keep = deniedKept
		}

		k.decisions.put(question, ok, keep)

		return ok, nil
	})
}

// flight asks the API server once for all who want to know the same, and not too much at the
// same time. It does not end with the request that happened to be the first.
func flight[T any](ctx context.Context, k *Kubernetes, key string, ask func(context.Context) (T, error)) (T, error) {
	done := k.flights.DoChan(key, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), reviewTimeout)
		defer cancel()

		select {
		case k.slots <- struct{}{}:
			defer func() { <-k.slots }()
		case <-ctx.Done():
			return nil, unanswered("requests at the same time", ctx.Err())
		}

		return ask(ctx)
	})

	var none T

	select {
	case result := <-done:
		if result.Err != nil {
			return none, result.Err
		}

		return result.Val.(T), nil
	case <-ctx.Done():
		return none, unanswered("in time", ctx.Err())
	}
}

// unanswered explains what an API server did not answer. Its own words are left out, because they
// may quote what was asked.
func unanswered(what string, err error) error {
	var status apierrors.APIStatus

	switch {
	case apierrors.IsForbidden(err), apierrors.IsUnauthorized(err):
		err = fmt.Errorf("the daemon's own service account may not create %s: bind it to the ClusterRole system:auth-delegator", what)
	case errors.As(err, &status):
		err = fmt.Errorf("%s: it answers %d (%s)", what, status.Status().Code, cmp.Or(string(status.Status().Reason), http.StatusText(int(status.Status().Code))))
	default:
		err = fmt.Errorf("%s: %w", what, err)
	}

	return &UnavailableError{Who: "the Kubernetes API server", Err: err}
}
