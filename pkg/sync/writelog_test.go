package sync_test

import (
	gosync "sync"

	"github.com/omni-syncd/omni-syncd/pkg/omni/embedded"
)

// writeLog records the writes that an embedded Omni accepted.
type writeLog struct {
	mu     gosync.Mutex
	writes []string
}

func (l *writeLog) add(w embedded.Write) {
	l.mu.Lock()
	defer l.mu.Unlock()

	if w.Code == 0 {
		l.writes = append(l.writes, w.Verb+" "+w.ID)
	}
}

func (l *writeLog) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()

	return append([]string(nil), l.writes...)
}

// last returns the newest n writes.
func (l *writeLog) last(n int) []string {
	all := l.all()

	return all[max(0, len(all)-n):]
}
