package api

import (
	"context"
	"errors"
	"net/http"
	"os/user"
	"strconv"
	"strings"
	gosync "sync"
	"time"
	"unicode"

	"connectrpc.com/connect"
	"go.uber.org/zap"

	"github.com/omni-syncd/omni-syncd/api/omnisyncd/v1/omnisyncdv1connect"
	"github.com/omni-syncd/omni-syncd/pkg/server"
	"github.com/omni-syncd/omni-syncd/pkg/server/auth"
)

// audit is what is known of one use of a service that acts or lets somebody in.
type audit struct {
	what   []zap.Field
	result string
	err    error
}

type auditKey struct{}

// audited gives a request of OperatorService or AccessService a record, which done writes
// to the log, also if the request was not understood.
func (h *Handler) audited(r *http.Request) (_ *http.Request, done func()) {
	service, procedure, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if service != omnisyncdv1connect.OperatorServiceName && service != omnisyncdv1connect.AccessServiceName {
		return r, func() {}
	}

	record := &audit{result: "not understood"}
	start := time.Now()

	return r.WithContext(context.WithValue(r.Context(), auditKey{}, record)), func() {
		fields := append(who(r), zap.String("procedure", printable(procedure)))
		fields = append(fields, record.what...)
		fields = append(fields, zap.String("result", record.result), zap.Duration("took", time.Since(start)))

		if record.err != nil {
			fields = append(fields, zap.String("error", printable(messageOf(record.err))))
		}

		h.Logger.Info("audit", fields...)
	}
}

// messageOf is an error without the code, which the line has as its result.
func messageOf(err error) string {
	var coded *connect.Error
	if errors.As(err, &coded) {
		return coded.Message()
	}

	return err.Error()
}

// logged writes a line of the access log: for every request that is over, at the level
// debug. What is done is in the audit log.
func (h *Handler) logged(r *http.Request, began time.Time) {
	h.Logger.Debug("access", append(who(r), zap.String("path", printable(r.URL.Path)), zap.String("protocol", r.Proto),
		zap.String("content", printable(r.Header.Get("Content-Type"))), zap.Duration("took", time.Since(began)))...)
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
func who(r *http.Request) []zap.Field {
	name := "unknown"
	if caller, ok := auth.Of(r.Context()); ok {
		name = caller.Name
	}

	if peer, ok := server.PeerOf(r.Context()); ok {
		return []zap.Field{zap.String("user", name), zap.Uint32("uid", peer.UID), zap.Int32("pid", peer.PID)}
	}

	return []zap.Field{zap.String("user", name), zap.String("remote", r.RemoteAddr)}
}

// identified gives a request that came over the unix socket its caller: the kernel said
// who it is. Those that came over the network have one already, or nobody checked them.
func identified(r *http.Request) *http.Request {
	peer, ok := server.PeerOf(r.Context())
	if !ok {
		return r
	}

	return r.WithContext(auth.With(r.Context(), auth.Owner(nameOf(peer.UID))))
}

// names are those of the users that were looked up: the daemon's and root, so it stays small.
var names gosync.Map

func nameOf(uid uint32) string {
	if name, ok := names.Load(uid); ok {
		return name.(string)
	}

	name := "uid " + strconv.FormatUint(uint64(uid), 10)
	if known, err := user.LookupId(strconv.FormatUint(uint64(uid), 10)); err == nil {
		name = known.Username
	}

	names.Store(uid, name)

	return name
}

// maxLogged is how much of a text from outside a log line holds, in bytes.
const maxLogged = 256

// printable makes a text from outside fit for a log line: nothing in it moves a cursor or
// starts a new line.
func printable(text string) string { return cut(visible(text), maxLogged) }

// visible replaces what does not show.
func visible(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}

		return '?'
	}, text)
}
