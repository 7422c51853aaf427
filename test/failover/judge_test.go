package failover

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordination "k8s.io/client-go/kubernetes/typed/coordination/v1"

	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
)

// judge sees every write that reaches Omni, while it is under way, and asks Kubernetes who
// holds the lease at that moment. A leader stops a second and more before anybody can take
// its lease, so the answer cannot be a moment too late.
type judge struct {
	t      *testing.T
	leases coordination.LeaseInterface

	mu        sync.Mutex
	described map[string]bool // the clusters in Git
	count     int
}

// wrote is called by Omni for every write, with its answer still held back.
func (j *judge) wrote(write embedded.Write) {
	if write.Identity == "" {
		return // a controller of Omni
	}

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	lease, err := j.leases.Get(ctx, leaseName, metav1.GetOptions{})

	j.mu.Lock()
	defer j.mu.Unlock()

	j.count++

	switch {
	case err != nil:
		j.t.Errorf("%s wrote, and nobody knows who holds the lease: %v", write.Identity, err)
	case holderOf(lease) != write.Identity:
		j.t.Errorf("two writers: %s did %s %s %s (%s) while %q holds the lease (renewed %s ago)",
			write.Identity, write.Verb, write.Type, write.ID, write.Code, holderOf(lease), time.Since(lease.Spec.RenewTime.Time).Round(time.Millisecond))
	}

	destroys := write.Verb != embedded.VerbCreate && write.Verb != embedded.VerbUpdate
	if destroys && write.Type == omni.ClusterType && j.described[write.ID] {
		j.t.Errorf("%s destroys the cluster %s, which is in Git", write.Identity, write.ID)
	}
}

func (j *judge) describe(cluster string) {
	j.mu.Lock()
	defer j.mu.Unlock()

	j.described[cluster] = true
}

func (j *judge) writes() int {
	j.mu.Lock()
	defer j.mu.Unlock()

	return j.count
}

func labelEquals(key, value string) resource.LabelQueryOption { return resource.LabelEqual(key, value) }

// logTail keeps the end of what a daemon writes.
type logTail struct {
	mu   sync.Mutex
	text []byte
}

const maxLog = 64 << 10

func (l *logTail) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()

	l.text = append(l.text, p...)
	if over := len(l.text) - maxLog; over > 0 {
		l.text = append(l.text[:0:0], l.text[over:]...)
	}

	return len(p), nil
}

func (l *logTail) tail() string {
	l.mu.Lock()
	defer l.mu.Unlock()

	return string(l.text)
}
