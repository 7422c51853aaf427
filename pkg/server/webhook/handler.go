package webhook

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// answer is what a delivery gets: one of a fixed set, so that nothing that was sent and
// nothing secret can be in it.
type answer struct {
	status int
	text   string
	// wait is sent as Retry-After, in whole seconds.
	wait time.Duration
	// charged: it counts against the failures of the remote address.
	charged bool
	// cause is for the log only.
	cause error
}

// delivery is what is known about a request, for the log. All of it is cleaned there.
type delivery struct {
	source, event, ref, id, remote string
	provider                       Provider
}

func refuse(status int, text string) *answer {
	return &answer{status: status, text: text, charged: true}
}

// busy is an answer to who did nothing wrong, or has been charged for it already.
func busy(status int, text string, wait time.Duration) *answer {
	return &answer{status: status, text: text, wait: max(wait, time.Second)}
}

func ignored(why string) *answer {
	return &answer{status: http.StatusAccepted, text: "ignored: " + why}
}

// ServeHTTP answers one delivery. It returns when Poke has returned.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	d := delivery{remote: h.remote(r)}
	if len(d.remote) > maxName {
		d.remote = d.remote[:maxName] // it is kept in a table
	}

	var a *answer
	if wait := h.remotes.wait(d.remote); wait > 0 {
		a = busy(http.StatusTooManyRequests, "too many failed attempts", wait)
	} else {
		a = h.handle(w, r, &d)
	}

	if a.charged {
		h.remotes.charge(d.remote)
	}

	h.log.record(d, a)
	reply(w, r, a)
}

// handle goes from the cheap checks to the dear ones. See the package documentation.
func (h *Handler) handle(w http.ResponseWriter, r *http.Request, d *delivery) *answer {
	if r.Method != http.MethodPost {
		return refuse(http.StatusMethodNotAllowed, "only POST is allowed")
	}

	k := h.find(r.URL.Path)
	if k == nil {
		d.source = strings.TrimPrefix(r.URL.Path, "/hooks/")

		return refuse(http.StatusNotFound, "no hook of this name")
	}

	d.source, d.provider = k.name, k.Provider
	d.event, d.id = first(r.Header, k.scheme.events), first(r.Header, k.scheme.deliveries)

	if a := h.checkType(r, k.scheme); a != nil {
		return a
	}

	proof, err := k.scheme.proof(r.Header, time.Now())
	if err != nil {
		if ping := k.scheme.unsignedPing; ping != "" && d.event == ping && errors.Is(err, errMissing) {
			return &answer{status: http.StatusOK, text: "pong, but it was not signed: the secret is not checked", charged: true}
		}

		return refuse(http.StatusUnauthorized, err.Error())
	}

	release, a := h.remotes.enter(d.remote)
	if a != nil {
		return a
	}
	defer release()

	secrets, err := readSecrets(k.SecretFile, k.Provider)
	if err != nil {
		a := busy(http.StatusServiceUnavailable, "the hook's secret cannot be used", 10*time.Second)
		a.cause, a.charged = err, true

		return a
	}

	// What is not about the body can be told without it.
	if len(proof.sums) == 0 {
		if _, ok := proof.check(secrets, nil); !ok {
			return refuse(http.StatusUnauthorized, "the secret is wrong")
		}
	}

	body, free, a := h.read(w, r)
	defer free()

	if a != nil {
		return a
	}

	id, ok := proof.check(secrets, body)
	if !ok {
		return refuse(http.StatusUnauthorized, "the signature is wrong")
	}

	return k.take(d, body, id, proof.again, isForm(r))
}

// take looks into a signed delivery. What is wrong from here on is not charged to the remote
// address: its sender knows the secret, and the source's own budget limits it.
func (k *hook) take(d *delivery, body []byte, id [32]byte, again, form bool) *answer {
	now := time.Now() // reading the body took its time

	if !again && k.seen.has(id, now) {
		a := ignored("seen before")
		a.charged = true // who replays what was captured has no secret

		return a
	}

	if !k.budget.AllowN(now, 1) {
		k.join(now)
		k.remember(id, again, now)

		return &answer{status: http.StatusAccepted, text: "accepted: joined with others, because there are many"}
	}

	if form {
		var err error
		if body, err = payloadField(body); err != nil {
			return &answer{status: http.StatusBadRequest, text: err.Error()}
		}
	}

	event, err := k.scheme.parse(d.event, body)
	if err != nil {
		return &answer{status: http.StatusBadRequest, text: err.Error()}
	}

	if event.ping {
		return &answer{status: http.StatusOK, text: "pong"}
	}

	ref, hit := k.match(event)
	d.ref = ref

	if !hit && ref == "" {
		return ignored("not an event about a ref")
	}

	if !hit {
		return ignored("another ref")
	}

	// Only what triggered is remembered: whoever captures a delivery and is faster with it under
	// another event name must not make the real one a repeat.
	k.remember(id, again, now)
	k.Poke()

	return &answer{status: http.StatusAccepted, text: "accepted"}
}

func (k *hook) remember(id [32]byte, again bool, now time.Time) {
	if !again {
		k.seen.add(id, now)
	}
}

// match returns the first ref that this hook follows, else the first one.
func (k *hook) match(e event) (ref string, hit bool) {
	for _, ref := range e.refs {
		if k.follows(ref) {
			return ref, true
		}
	}

	if len(e.refs) > 0 {
		ref = e.refs[0]
	}

	return ref, e.all
}

// find returns nil if there is no hook of that name.
func (h *Handler) find(path string) *hook {
	name, ok := strings.CutPrefix(path, "/hooks/")
	if !ok {
		return nil
	}

	return h.hooks[name]
}

// checkType looks at what the headers say about the body.
func (h *Handler) checkType(r *http.Request, s scheme) *answer {
	if r.ContentLength > h.limits.MaxBody {
		return h.tooLarge()
	}

	if encoding := r.Header.Get("Content-Encoding"); encoding != "" && encoding != "identity" {
		return refuse(http.StatusUnsupportedMediaType, "the body must not be compressed")
	}

	if s.empty && r.ContentLength == 0 {
		return nil
	}

	switch kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); {
	case err == nil && kind == "application/json":
		return nil
	case err == nil && kind == formType && s.form:
		return nil
	}

	return refuse(http.StatusUnsupportedMediaType, "the content type must be application/json")
}

func (h *Handler) tooLarge() *answer {
	return refuse(http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is larger than %d bytes", h.limits.MaxBody))
}

// read returns the whole body. The caller calls free when it is done with it, in any case.
//
// The first bytes of a body are free of charge, so that those who fill the memory with large
// bodies do not keep an ordinary delivery out.
func (h *Handler) read(w http.ResponseWriter, r *http.Request) (body []byte, free func(), refused *answer) {
	var taken int64

	free = func() { h.memory.Add(-taken) }

	if err := http.NewResponseController(w).SetReadDeadline(time.Now().Add(h.limits.BodyTimeout)); err != nil {
		a := refuse(http.StatusInternalServerError, "deliveries cannot be read")
		a.cause = fmt.Errorf("set a read deadline: %w: whatever wraps the ResponseWriter has to have Unwrap", err)

		return nil, free, a
	}

	size := int64(firstChunk) // one byte more than the body, or its end is not seen
	if r.ContentLength >= 0 {
		size = min(size, r.ContentLength+1)
	}

	body = make([]byte, 0, min(size, h.limits.MaxBody+1))

	for {
		n, err := r.Body.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]

		switch {
		case int64(len(body)) > h.limits.MaxBody:
			return nil, free, h.tooLarge()
		case errors.Is(err, io.EOF):
			return body, free, nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil, free, refuse(http.StatusRequestTimeout, "the body came too slowly")
		case err != nil:
			return nil, free, refuse(http.StatusBadRequest, "the body was cut off")
		case len(body) < cap(body):
			continue
		}

		larger := min(2*int64(cap(body)), h.limits.MaxBody+1)
		if h.memory.Add(larger) > h.limits.MaxMemory {
			h.memory.Add(-larger)

			return nil, free, busy(http.StatusServiceUnavailable, "too many large deliveries at once", time.Second)
		}

		body = append(make([]byte, 0, larger), body...)

		h.memory.Add(-taken)
		taken = larger
	}
}

// refusedBody bounds the time for which the server reads on, to keep the connection, in a body
// that was refused unread.
const refusedBody = time.Second

func reply(w http.ResponseWriter, r *http.Request, a *answer) {
	header := w.Header()
	header.Set("Content-Type", "text/plain; charset=utf-8")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cache-Control", "no-store")

	if a.status == http.StatusMethodNotAllowed {
		header.Set("Allow", http.MethodPost)
	}

	if a.wait > 0 {
		header.Set("Retry-After", strconv.Itoa(int((a.wait+time.Second-1)/time.Second)))
	}

	if a.status >= http.StatusBadRequest && r.ContentLength != 0 {
		if r.ProtoMajor == 1 { // in HTTP/2 it would end the other requests' connection too
			header.Set("Connection", "close")
		}

		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(refusedBody)) // at best: nothing is read by us
	}

	w.WriteHeader(a.status)
	_, _ = io.WriteString(w, a.text+"\n") // the sender may be gone
}

// first returns the value of the first of the headers that is there exactly once.
func first(h http.Header, names []string) string {
	for _, name := range names {
		if value := only(h, name); value != "" {
			return value
		}
	}

	return ""
}
