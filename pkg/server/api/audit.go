package api

import (
	"context"
	"net/http"
	"os/user"
	"strconv"
	"strings"
	"time"
	"unicode"

	"connectrpc.com/connect"
	"go.uber.org/zap"

	"github.com/omni-syncd/omni-syncd/api/omnisyncd/v1/omnisyncdv1connect"
	"github.com/omni-syncd/omni-syncd/pkg/server"
)

// audit is what is known of one use of OperatorService.
type audit struct {
	what   []zap.Field
	result string
	err    error
}

type auditKey struct{}

// audited gives a request of OperatorService a record, which done writes to the log, also
// if the request was not understood.
func (h *Handler) audited(r *http.Request) (_ *http.Request, done func()) {
	procedure, ok := strings.CutPrefix(r.URL.Path, "/"+omnisyncdv1connect.OperatorServiceName+"/")
	if !ok {
		return r, func() {}
	}

	record := &audit{result: "not understood"}
	start := time.Now()

	return r.WithContext(context.WithValue(r.Context(), auditKey{}, record)), func() {
		fields := append(who(r.Context()), zap.String("procedure", printable(procedure)))
		fields = append(fields, record.what...)
		fields = append(fields, zap.String("result", record.result), zap.Duration("took", time.Since(start)))

		if record.err != nil {
			fields = append(fields, zap.String("error", printable(record.err.Error())))
		}

		h.Logger.Info("audit", fields...)
	}
}

// note writes down what was asked for, and how that ended.
func note(ctx context.Context, err error, what ...zap.Field) {
	record, ok := ctx.Value(auditKey{}).(*audit)
	if !ok {
		return
	}

	record.what, record.result, record.err = what, "ok", err
	if err != nil {
		record.result = connect.CodeOf(err).String()
	}
}

// who names the other side.
func who(ctx context.Context) []zap.Field {
	peer, ok := server.PeerOf(ctx)
	if !ok {
		return []zap.Field{zap.String("user", "unknown")}
	}

	uid := strconv.FormatUint(uint64(peer.UID), 10)
	name := uid

	if known, err := user.LookupId(uid); err == nil {
		name = known.Username
	}

	return []zap.Field{zap.String("user", name), zap.Uint32("uid", peer.UID), zap.Int32("pid", peer.PID)}
}

// maxLogged is how much of a text from outside a log line holds, in bytes.
const maxLogged = 256

// printable makes a text from outside fit for a log line: nothing in it moves a cursor or
// starts a new line.
func printable(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}

		return '?'
	}, text)

	return cut(text, maxLogged)
}
