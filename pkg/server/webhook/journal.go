package webhook

import (
	"net/http"
	"strings"
	"sync/atomic"
	"unicode/utf8"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/time/rate"
)

// maxField bounds the bytes of a logged field that somebody else chose.
const maxField = 128

// journal writes one line for each delivery.
type journal struct {
	log     *zap.Logger
	refused *rate.Limiter
	left    atomic.Int64 // refused deliveries without a line since the last one with
}

func newJournal(log *zap.Logger, limit rate.Limit) *journal {
	if log == nil {
		log = zap.NewNop()
	}

	return &journal{log: log, refused: rate.NewLimiter(limit, max(1, 4*int(limit)))}
}

// record writes a line: Info for what was accepted, Debug for what was ignored, Warn for what was
// refused, Error for what the operator has to mend. Lines about refusals are limited, because
// anybody can cause them.
func (j *journal) record(d delivery, a *answer) {
	level, text := zapcore.InfoLevel, "webhook accepted"

	switch {
	case a.cause != nil:
		level, text = zapcore.ErrorLevel, "webhook cannot be served"
	case a.status >= http.StatusBadRequest:
		level, text = zapcore.WarnLevel, "webhook refused"
	case a.charged || a.status == http.StatusOK || strings.HasPrefix(a.text, "ignored"):
		level, text = zapcore.DebugLevel, "webhook ignored"
	}

	if level >= zapcore.WarnLevel && !j.refused.Allow() {
		j.left.Add(1)

		return
	}

	line := j.log.Check(level, text)
	if line == nil {
		return
	}

	fields := []zap.Field{
		zap.String("source", clean(d.source)),
		zap.String("provider", string(d.provider)),
		zap.String("event", clean(d.event)),
		zap.String("ref", clean(d.ref)),
		zap.String("delivery", clean(d.id)),
		zap.String("remote", clean(d.remote)),
		zap.Int("status", a.status),
		zap.String("answer", a.text),
	}

	if level >= zapcore.WarnLevel {
		if left := j.left.Swap(0); left > 0 {
			fields = append(fields, zap.Int64("refusedWithoutLine", left))
		}
	}

	line.Write(append(fields, zap.Error(a.cause))...)
}

// clean makes text that somebody else chose fit for a line of a log or a terminal: printable ASCII,
// bounded. Anything else becomes a question mark.
func clean(s string) string {
	cut := len(s) > maxField
	if cut {
		s = s[:maxField]
	}

	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == utf8.RuneError {
			return '?'
		}

		return r
	}, s)

	if cut {
		s += "..."
	}

	return s
}
