package chaos

import (
	"slices"
	"time"
)

// moment is something that the daemon said in its log, or its end.
type moment struct {
	at   time.Time // by the daemon
	what momentKind
	hash string // of the revision that it took
}

type momentKind int

const (
	accepted   momentKind = iota // it took a revision
	configured                   // it took a configuration
	ended                        // it ended
)

// clock returns the time of a line of the log, which has no date.
func clock(text string) time.Time {
	now := time.Now()

	at, err := time.ParseInLocation("15:04:05.000", text, now.Location())
	if err != nil {
		return now
	}

	at = time.Date(now.Year(), now.Month(), now.Day(), at.Hour(), at.Minute(), at.Second(), at.Nanosecond(), now.Location())
	if at.After(now.Add(time.Hour)) { // it was written before midnight
		at = at.AddDate(0, 0, -1)
	}

	return at
}

// count returns how often something happened.
func (l *log) count(what ...momentKind) int {
	l.mu.Lock()
	defer l.mu.Unlock()

	n := 0

	for _, m := range l.moments {
		if slices.Contains(what, m.what) {
			n++
		}
	}

	return n
}

// since returns what happened from a time on, with the revision that was in force before that.
func (l *log) since(at time.Time) []moment {
	l.mu.Lock()
	defer l.mu.Unlock()

	from := len(l.moments)
	for from > 0 && l.moments[from-1].at.After(at) {
		from--
	}

	for before := from - 1; before >= 0; before-- {
		if l.moments[before].what == accepted {
			return append([]moment{l.moments[before]}, l.moments[from:]...)
		}

		if l.moments[before].what == ended {
			break
		}
	}

	return slices.Clone(l.moments[from:])
}
