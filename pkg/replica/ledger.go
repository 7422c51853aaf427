package replica

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/omni-syncd/omni-syncd/pkg/sync"
)

// ledgerKey is the key of what was deleted lately, in the ConfigMap of the suspensions.
const ledgerKey = "deletions.json"

// LoadLedger returns what was written down about deletions; nothing if there is no ConfigMap. What cannot be read is lost:
// see [sync.LostLedger].
func (s *Suspensions) LoadLedger(ctx context.Context) (sync.Ledger, error) {
	ctx, cancel := context.WithTimeout(ctx, keepTimeout)
	defer cancel()

	kept, err := s.Client.CoreV1().ConfigMaps(s.Namespace).Get(ctx, s.Name, metav1.GetOptions{})

	switch {
	case apierrors.IsNotFound(err):
		return sync.Ledger{}, nil
	case err != nil:
		return sync.Ledger{}, fmt.Errorf("reading what was deleted lately: %w", err)
	default:
		return s.decodeLedger(kept), nil
	}
}

func (s *Suspensions) decodeLedger(kept *corev1.ConfigMap) sync.Ledger {
	data, ok := kept.Data[ledgerKey]
	if !ok {
		return sync.Ledger{}
	}

	ledger, err := sync.DecodeLedger([]byte(data))
	if err != nil {
		s.Logger.Error(fmt.Sprintf("%s in the ConfigMap %s/%s tells what was deleted lately, and cannot be read (%v): nothing is deleted by itself for a while", ledgerKey, s.Namespace, s.Name, err))

		return sync.LostLedger()
	}

	return ledger
}

// KeepLedger replaces what is written down by what update makes of it. Each shard writes there: if another one was faster,
// that is read and update is called once more. It is durable on return.
func (s *Suspensions) KeepLedger(update func(kept sync.Ledger) sync.Ledger) error {
	s.mu.Lock()
	defer s.mu.Unlock()

	_, err := s.replace(func(kept *corev1.ConfigMap) error {
		data, err := sync.EncodeLedger(update(s.decodeLedger(kept)))
		if err != nil {
			return err
		}

		if room := maxSuspensions - len(kept.Data[suspensionsKey]); len(data) > room {
			return fmt.Errorf("the ConfigMap %s has room for %d bytes about deletions, and this is %d; resume some of what is suspended", s.Name, room, len(data))
		}

		kept.Data[ledgerKey] = string(data)

		return nil
	})

	return err
}
