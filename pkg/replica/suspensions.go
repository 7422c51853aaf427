package replica

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	gosync "sync"
	"time"

	"github.com/go-logr/logr"
	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/retry"
	"k8s.io/klog/v2"

	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

const (
	// suspensionsKey is the key of the ConfigMap.
	suspensionsKey = "suspended.json"
	// damagedKey is that of the last list that could not be read.
	damagedKey = suspensionsKey + ".damaged"
	// maxSuspensions is how large a ConfigMap may be, in bytes, with some room for the rest.
	maxSuspensions = 1<<20 - 16<<10
	// keepTimeout bounds a call: somebody waits for the answer.
	keepTimeout = 10 * time.Second
)

// SuspensionsConfig configures [Suspensions].
type SuspensionsConfig struct {
	// Client, Namespace and Name say which ConfigMap.
	Client          kubernetes.Interface
	Namespace, Name string
	// Logger is told what cannot be read. It may be nil.
	Logger *zap.Logger
}

// Suspensions keeps what people suspended in a ConfigMap, so that every replica knows it,
// whichever leads, and after a restart. The one that leads writes it. What was deleted lately
// is in the same ConfigMap.
type Suspensions struct {
	SuspensionsConfig

	mu      gosync.Mutex
	version string // of the newest ConfigMap that was read or written; "" if there is none
	data    string // what it held
}

// Adopter puts suspensions in force; see [sync.Engine.AdoptSuspensions].
type Adopter interface {
	AdoptSuspensions(kept func() ([]sync.Suspension, bool))
}

// NewSuspensions returns what keeps suspensions. Nothing is asked of Kubernetes yet.
func NewSuspensions(cfg SuspensionsConfig) *Suspensions {
	cfg.Logger = cmp.Or(cfg.Logger, zap.NewNop())

	return &Suspensions{SuspensionsConfig: cfg}
}

// Load returns what is kept; nothing if there is no ConfigMap.
func (s *Suspensions) Load(ctx context.Context) ([]sync.Suspension, error) {
	ctx, cancel := context.WithTimeout(ctx, keepTimeout)
	defer cancel()

	kept, err := s.Client.CoreV1().ConfigMaps(s.Namespace).Get(ctx, s.Name, metav1.GetOptions{})

	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("reading what is suspended: %w", err)
	}

	s.mu.Lock()
	defer s.mu.Unlock()

	s.know(kept)

	return s.decode(kept), nil
}

// know notes the newest ConfigMap. The lock is held.
func (s *Suspensions) know(kept *corev1.ConfigMap) {
	s.version = kept.ResourceVersion
	s.data, _ = written(kept)
}

// written returns what is written down in a ConfigMap, and whether there is anything. kubectl
// puts what is no text at another place.
func written(kept *corev1.ConfigMap) (string, bool) {
	if data, ok := kept.BinaryData[suspensionsKey]; ok {
		return string(data), true
	}

	data, ok := kept.Data[suspensionsKey]

	return data, ok
}

// Run puts in force what other replicas keep, until ctx ends, and then returns nil. If the
// ConfigMap is deleted, that changes nothing: what is suspended stays so until somebody
// resumes it.
func (s *Suspensions) Run(ctx context.Context, engine Adopter) error {
	factory := informers.NewSharedInformerFactoryWithOptions(s.Client, 0, informers.WithNamespace(s.Namespace),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, s.Name).String()
		}))

	adopt := func(object any) {
		if kept, ok := object.(*corev1.ConfigMap); ok {
			engine.AdoptSuspensions(func() ([]sync.Suspension, bool) { return s.newer(kept) })
		}
	}

	informer := factory.Core().V1().ConfigMaps().Informer()

	if err := informer.SetWatchErrorHandlerWithContext(s.failed()); err != nil {
		return fmt.Errorf("watching the ConfigMap %s/%s: %w", s.Namespace, s.Name, err)
	}

	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: adopt, UpdateFunc: func(_, now any) { adopt(now) },
		DeleteFunc: func(any) {
			s.Logger.Warn("the ConfigMap that tells what is suspended was deleted; it stays suspended until a restart", zap.String("configmap", s.Name))
		},
	})
	if err != nil {
		return fmt.Errorf("watching the ConfigMap %s/%s: %w", s.Namespace, s.Name, err)
	}

	factory.StartWithContext(klog.NewContext(ctx, logr.Discard()))
	<-ctx.Done()
	factory.Shutdown()

	return nil
}

// failed returns what tells of a watch that fails, once.
func (s *Suspensions) failed() cache.WatchErrorHandlerWithContext {
	told := ""

	return func(_ context.Context, _ *cache.Reflector, err error) {
		expected := apierrors.IsResourceExpired(err) || apierrors.IsGone(err) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if text := err.Error(); !expected && text != told {
			told = text
			s.Logger.Warn("what other replicas suspend is not heard of now", zap.String("configmap", s.Name), zap.Error(err))
		}
	}
}

// Refresh puts in force what is kept now. Who takes the lead asks for it: the watch may lag
// behind, and what the last leader suspended must not be written to.
func (s *Suspensions) Refresh(ctx context.Context, engine Adopter) error {
	kept, err := s.Client.CoreV1().ConfigMaps(s.Namespace).Get(ctx, s.Name, metav1.GetOptions{})

	switch {
	case apierrors.IsNotFound(err):
		return nil // as in Run
	case err != nil:
		return fmt.Errorf("reading what is suspended: %w", err)
	}

	engine.AdoptSuspensions(func() ([]sync.Suspension, bool) { return s.newer(kept) })

	return nil
}

// newer returns what a ConfigMap keeps, and false if it is not newer than what is known: a
// watch lags behind.
func (s *Suspensions) newer(kept *corev1.ConfigMap) ([]sync.Suspension, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()

	if order, err := resourceversion.CompareResourceVersion(kept.ResourceVersion, cmp.Or(s.version, "0")); err == nil && order <= 0 {
		return nil, false
	}

	s.know(kept)

	return s.decode(kept), true
}

// decode returns what a ConfigMap keeps; a suspension of everything if that cannot be read:
// what somebody suspended must not be written to.
func (s *Suspensions) decode(kept *corev1.ConfigMap) []sync.Suspension {
	data, ok := written(kept)
	if !ok {
		return nil
	}

	all, err := sync.DecodeSuspensions([]byte(data))
	if err != nil {
		all = sync.Unreadable(fmt.Sprintf("%s in the ConfigMap %s/%s", suspensionsKey, s.Namespace, s.Name), err)
		s.Logger.Error(all[0].Reason)
	}

	return all
}

// Keep replaces what is kept. It is durable when that returns. If another replica was faster,
// nothing is written. What cannot be read stays beside it.
func (s *Suspensions) Keep(all []sync.Suspension) error {
	data, err := sync.EncodeSuspensions(all)
	if err != nil {
		return err
	}

	if len(data) > maxSuspensions {
		return fmt.Errorf("the ConfigMap %s would have %d bytes, and Kubernetes takes %d; resume some of them", s.Name, len(data), maxSuspensions)
	}

	s.mu.Lock()
	defer s.mu.Unlock()

	kept, err := s.replace(func(kept *corev1.ConfigMap) error {
		before, _ := written(kept)
		if before != s.data && kept.ResourceVersion != "" {
			return errors.New("another replica changed what is suspended at the same moment: try again")
		}

		if _, err := sync.DecodeSuspensions([]byte(before)); err != nil && before != "" {
			kept.Data[damagedKey] = strings.ToValidUTF8(before, "?")
		}

		if damaged, ok := kept.Data[damagedKey]; ok { // its beginning is better than nothing
			room := max(maxSuspensions-len(data)-len(kept.Data[ledgerKey]), 0)
			kept.Data[damagedKey] = strings.ToValidUTF8(damaged[:min(len(damaged), room)], "")
		}

		kept.Data[suspensionsKey] = string(data)
		delete(kept.BinaryData, suspensionsKey)

		return nil
	})
	if err != nil {
		return err
	}

	s.know(kept)

	return nil
}

// replace changes the ConfigMap, which need not exist and then has no version, and tries again if somebody else changed it
// meanwhile. It returns what is kept now. The lock is held.
func (s *Suspensions) replace(change func(kept *corev1.ConfigMap) error) (*corev1.ConfigMap, error) {
	ctx, cancel := context.WithTimeout(context.Background(), keepTimeout)
	defer cancel()

	client := s.Client.CoreV1().ConfigMaps(s.Namespace)
	faster := func(err error) bool { return apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) }

	var kept *corev1.ConfigMap

	err := retry.OnError(retry.DefaultBackoff, faster, func() (err error) {
		kept, err = client.Get(ctx, s.Name, metav1.GetOptions{})
		missing := apierrors.IsNotFound(err)

		switch {
		case missing:
			kept = &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: s.Name, Labels: map[string]string{"app.kubernetes.io/managed-by": "omni-syncd"}}}
		case err != nil:
			return fmt.Errorf("reading the ConfigMap %s/%s: %w", s.Namespace, s.Name, err)
		}

		if kept.Data == nil {
			kept.Data = map[string]string{}
		}

		if err := change(kept); err != nil {
			return err
		}

		if missing {
			kept, err = client.Create(ctx, kept, metav1.CreateOptions{})
		} else {
			kept, err = client.Update(ctx, kept, metav1.UpdateOptions{})
		}

		if err != nil {
			return fmt.Errorf("writing the ConfigMap %s/%s: %w", s.Namespace, s.Name, err)
		}

		return nil
	})

	return kept, err
}
