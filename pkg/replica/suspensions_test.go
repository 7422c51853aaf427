package replica_test

import (
	"context"
	"fmt"
	"strings"
	gosync "sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/omni-syncd/omni-syncd/pkg/replica"
	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

// board has the suspensions that are in force.
type board struct {
	mu      gosync.Mutex
	now     []sync.Suspension
	changed chan struct{}
}

func (b *board) AdoptSuspensions(kept func() ([]sync.Suspension, bool)) {
	b.mu.Lock()
	defer b.mu.Unlock()

	if all, ok := kept(); ok {
		b.now = all
		close(b.changed)
		b.changed = make(chan struct{})
	}
}

func (b *board) until(t *testing.T, want []sync.Suspension) {
	t.Helper()

	b.untilFunc(t, func(now []sync.Suspension) bool { return cmp.Equal(now, want) })
}

func (b *board) untilFunc(t *testing.T, want func([]sync.Suspension) bool) {
	t.Helper()

	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()

	for {
		b.mu.Lock()
		now, changed := b.now, b.changed
		b.mu.Unlock()

		if want(now) {
			return
		}

		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("not in %s: %v", limit, now)
		}
	}
}

func follow(t *testing.T, client kubernetes.Interface, namespace string) (*replica.Suspensions, *board) {
	t.Helper()

	s := replica.NewSuspensions(replica.SuspensionsConfig{Client: client, Namespace: namespace, Name: "suspensions"})
	b := &board{changed: make(chan struct{})}

	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)

	go func() { done <- s.Run(ctx, b) }()

	t.Cleanup(func() {
		stop()

		if err := <-done; err != nil {
			t.Error(err)
		}
	})

	return s, b
}

func suspended(clusters ...string) []sync.Suspension {
	var all []sync.Suspension
	for _, c := range clusters {
		all = append(all, sync.Suspension{Source: "fleet", Target: &c, By: "joe", Reason: "<&>", Since: time.Unix(1700000000, 0).UTC()})
	}

	return all
}

func TestSuspensions(t *testing.T) {
	client, namespace := join(t)

	a, onA := follow(t, client, namespace)
	b, onB := follow(t, client, namespace)

	if got, err := a.Load(t.Context()); err != nil || got != nil {
		t.Errorf("nothing is kept: %v, %v", got, err)
	}

	if err := a.Keep(suspended("one")); err != nil {
		t.Fatal(err)
	}

	onB.until(t, suspended("one"))

	if err := b.Keep(suspended("one", "two")); err != nil {
		t.Fatal(err)
	}

	onA.until(t, suspended("one", "two"))

	// One that starts later reads it.
	later := replica.NewSuspensions(replica.SuspensionsConfig{Client: client, Namespace: namespace, Name: "suspensions"})

	got, err := later.Load(t.Context())
	if d := cmp.Diff(suspended("one", "two"), got); err != nil || d != "" {
		t.Errorf("%v\n%s", err, d)
	}

	// Of two that change it at the same moment one has to try again.
	if err := a.Keep(suspended("three")); err != nil {
		t.Fatal(err)
	}

	if err := later.Keep(suspended("four")); err == nil || !strings.Contains(err.Error(), "try again") {
		t.Errorf("an update was lost: %v", err)
	}
}

// What somebody writes by hand counts. If it cannot be read, everything is suspended. Labels of
// others stay, and are no change.
func TestSuspensions_ByHand(t *testing.T) {
	client, namespace := join(t)
	s, b := follow(t, client, namespace)
	maps := client.CoreV1().ConfigMaps(namespace)

	edit := func(change func(*corev1.ConfigMap)) {
		t.Helper()

		kept, err := maps.Get(t.Context(), "suspensions", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}

		change(kept)

		if _, err := maps.Update(t.Context(), kept, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}

	if err := s.Keep(suspended("one")); err != nil {
		t.Fatal(err)
	}

	edit(func(m *corev1.ConfigMap) { m.Labels["team"] = "x" })

	if err := s.Keep(suspended("two")); err != nil {
		t.Errorf("a label of others: %v", err)
	}

	edit(func(m *corev1.ConfigMap) {
		if m.Labels["team"] != "x" {
			t.Error("the label of others is gone")
		}

		m.Data["suspended.json"] = "{"
	})

	b.untilFunc(t, everything)

	edit(func(m *corev1.ConfigMap) {
		m.Data["suspended.json"] = `{"suspended": [{"source": "fleet", "by": "hand"}]}`
	})
	b.until(t, []sync.Suspension{{Source: "fleet", By: "hand"}})
}

// A new leader knows what the last one suspended also if its watch tells nothing: it asks
// before it leads, and does not lead while it cannot.
func TestSuspensions_BeforeLeading(t *testing.T) {
	client, namespace := join(t)

	first := replica.NewSuspensions(replica.SuspensionsConfig{Client: client, Namespace: namespace, Name: "suspensions"})
	if err := first.Keep(suspended("one")); err != nil {
		t.Fatal(err)
	}

	// It may not read this one.
	blind := replica.NewSuspensions(replica.SuspensionsConfig{Client: client, Namespace: namespace, Name: "others"})
	onBlind := &board{changed: make(chan struct{})}

	a, stop := competeAfter(t, client, namespace, "a", sync.Shard{}, func(ctx context.Context) error { return blind.Refresh(ctx, onBlind) })

	now := until(t, a, func(now sync.Leadership) bool { return now.Reason != "" || now.Term != 0 })
	if _, ok := a.Until(); ok || !strings.HasPrefix(now.Reason, "reading what is suspended: ") {
		t.Errorf("it may write: %t, %+v", ok, now)
	}

	stop()

	next := replica.NewSuspensions(replica.SuspensionsConfig{Client: client, Namespace: namespace, Name: "suspensions"})
	onNext := &board{changed: make(chan struct{})}

	b, stop := competeAfter(t, client, namespace, "b", sync.Shard{}, func(ctx context.Context) error { return next.Refresh(ctx, onNext) })
	defer stop()

	until(t, b, leads)
	onNext.until(t, suspended("one"))

	if err := next.Keep(suspended("one", "two")); err != nil {
		t.Error(err)
	}
}

// Somebody took the right to watch away, and that is told.
func TestSuspensions_NoRightToWatch(t *testing.T) {
	client, namespace := join(t)

	core, logs := observer.New(zap.WarnLevel)
	s := replica.NewSuspensions(replica.SuspensionsConfig{Client: client, Namespace: namespace, Name: "others", Logger: zap.New(core)})

	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)

	go func() { done <- s.Run(ctx, &board{changed: make(chan struct{})}) }()

	for end := time.Now().Add(limit); logs.Len() == 0 && time.Now().Before(end); {
		time.Sleep(retry)
	}

	stop()

	if err := <-done; err != nil {
		t.Error(err)
	}

	if all := logs.All(); len(all) == 0 || !strings.Contains(fmt.Sprint(all[0].ContextMap()["error"]), "forbidden") {
		t.Errorf("%v", all)
	}
}
