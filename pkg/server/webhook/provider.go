package webhook

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"
)

// scheme is how a provider signs and what it sends. Header names are in canonical form.
type scheme struct {
	proof      func(http.Header, time.Time) (proof, error)
	events     []string // headers that name the event, the first that is there counts
	deliveries []string // headers that identify the delivery, for the log
	parse      func(name string, body []byte) (event, error)
	form       bool // JSON may come as the field "payload" of a form
	empty      bool // the body may be empty
	// unsignedPing is the value of the event header with which the provider tests the
	// connection without signing. It is answered and has no effect.
	unsignedPing string
}

// event is what a delivery says.
type event struct {
	refs []string // that changed, full names; none: no event about refs
	all  bool     // there may be more, or it does not say: look anyway
	ping bool
}

var schemes = map[Provider]scheme{
	GitHub: {
		proof:      hexProof(signatureHeader{"X-Hub-Signature-256", "sha256="}),
		events:     []string{"X-Github-Event"},
		deliveries: []string{"X-Github-Delivery"},
		parse:      parseGitHub,
		form:       true,
	},
	GitLab: {
		proof:      gitlabProof,
		events:     []string{"X-Gitlab-Event"},
		deliveries: []string{"Webhook-Id", "Idempotency-Key", "X-Gitlab-Event-Uuid"},
		parse:      parseGitLab,
	},
	Gitea: {
		proof: hexProof(
			signatureHeader{"X-Forgejo-Signature", ""},
			signatureHeader{"X-Gitea-Signature", ""},
			signatureHeader{"X-Gogs-Signature", ""},
			signatureHeader{"X-Hub-Signature-256", "sha256="},
		),
		events:     []string{"X-Forgejo-Event", "X-Gitea-Event", "X-Gogs-Event", "X-Github-Event"},
		deliveries: []string{"X-Forgejo-Delivery", "X-Gitea-Delivery", "X-Gogs-Delivery", "X-Github-Delivery"},
		parse:      parseGitHub, // Gitea's payloads have the shape of GitHub's
	},
	Bitbucket: {
		proof:        hexProof(signatureHeader{"X-Hub-Signature", "sha256="}),
		events:       []string{"X-Event-Key"},
		deliveries:   []string{"X-Request-Uuid", "X-Request-Id"},
		parse:        parseBitbucket,
		unsignedPing: "diagnostics:ping",
	},
	Generic: {
		proof:      genericProof,
		deliveries: []string{"X-Delivery-Id"},
		parse:      parseGeneric,
		empty:      true,
	},
}

// errPayload says that a body is not what its event should look like. The cause is not
// kept: it would quote the body.
var errPayload = errors.New("the body is not JSON of the form that this event has")

// parseGitHub reads push {ref: full name}, and create and delete {ref: short name, ref_type}.
func parseGitHub(name string, body []byte) (event, error) {
	switch name {
	case "ping":
		return event{ping: true}, nil
	case "push", "create", "delete":
	default:
		return event{}, nil
	}

	var payload struct {
		Ref     string `json:"ref"`
		RefType string `json:"ref_type"`
	}

	if err := json.Unmarshal(body, &payload); err != nil || payload.Ref == "" {
		return event{}, errPayload
	}

	if name == "push" || strings.HasPrefix(payload.Ref, "refs/") {
		return single(payload.Ref)
	}

	return single(fullName(payload.RefType, payload.Ref))
}

// parseGitLab reads push and tag_push {ref}, and of system hooks also repository_update
// {changes: [{ref}]}.
func parseGitLab(name string, body []byte) (event, error) {
	switch name {
	case "Push Hook", "Tag Push Hook", "System Hook":
	default:
		return event{}, nil
	}

	var payload struct {
		ObjectKind string                `json:"object_kind"`
		EventName  string                `json:"event_name"`
		Ref        string                `json:"ref"`
		Changes    changes[gitlabChange] `json:"changes"`
	}

	if json.Unmarshal(body, &payload) != nil {
		// A system hook may be about anything, also with a "changes" of another shape.
		return event{}, errPayload
	}

	switch kind := payload.EventName; {
	case kind == "repository_update":
		return payload.Changes.event()
	case payload.ObjectKind == "push", payload.ObjectKind == "tag_push", kind == "push", kind == "tag_push":
		return single(payload.Ref)
	case name == "System Hook":
		return event{}, nil
	}

	return event{}, errPayload
}

// parseBitbucket reads repo:push of Bitbucket Cloud {push: {changes: [{new, old}]}}, and
// repo:refs_changed and mirror:repo_synchronized of Data Center {changes: [{ref: {id}}]}.
func parseBitbucket(name string, body []byte) (event, error) {
	var payload struct {
		Push struct {
			Changes changes[cloudChange] `json:"changes"`
		} `json:"push"`
	}

	var server struct {
		Changes changes[serverChange] `json:"changes"`
		More    bool                  `json:"refLimitExceeded"`
	}

	switch name {
	case "diagnostics:ping":
		return event{ping: true}, nil
	case "repo:push":
		if json.Unmarshal(body, &payload) != nil {
			return event{}, errPayload
		}

		return payload.Push.Changes.event()
	case "repo:refs_changed", "mirror:repo_synchronized":
		if json.Unmarshal(body, &server) != nil {
			return event{}, errPayload
		}

		server.Changes.over = server.Changes.over || server.More

		return server.Changes.event()
	}

	return event{}, nil
}

// parseGeneric reads nothing or an object with or without ref.
func parseGeneric(_ string, body []byte) (event, error) {
	if len(body) == 0 {
		return event{all: true}, nil
	}

	var payload struct {
		Ref string `json:"ref"`
	}

	// That it begins with a brace is what keeps the two forms of signing apart.
	if body[0] != '{' || json.Unmarshal(body, &payload) != nil {
		return event{}, errPayload
	}

	if payload.Ref == "" {
		return event{all: true}, nil
	}

	return single(payload.Ref)
}

func single(ref string) (event, error) {
	if ref == "" || len(ref) > maxRef {
		return event{}, errPayload
	}

	return event{refs: []string{ref}}, nil
}

// fullName is "" for a kind of ref that Git does not have.
func fullName(kind, name string) string {
	switch kind {
	case "branch":
		return "refs/heads/" + name
	case "tag":
		return "refs/tags/" + name
	}

	return ""
}

// changes is a JSON array of changes, of which no more than maxRefs are kept: 8 MiB of "{},"
// decoded into a slice would be a hundred times as large.
type changes[C interface{ ref() string }] struct {
	refs []string
	over bool
}

// UnmarshalJSON implements json.Unmarshaler.
func (l *changes[C]) UnmarshalJSON(data []byte) error {
	in := json.NewDecoder(bytes.NewReader(data))

	if open, err := in.Token(); err != nil || open != json.Delim('[') {
		return err // nil for null and for what is no array: then there are no refs
	}

	for n := 0; in.More(); n++ {
		if n == maxRefs {
			l.over = true

			return nil
		}

		var change C
		if err := in.Decode(&change); err != nil {
			return err
		}

		if ref := change.ref(); ref != "" && len(ref) <= maxRef {
			l.refs = append(l.refs, ref)
		}
	}

	return nil
}

func (l *changes[C]) event() (event, error) {
	if len(l.refs) == 0 && !l.over {
		return event{}, errPayload
	}

	return event{refs: l.refs, all: l.over}, nil
}

type gitlabChange struct {
	Ref string `json:"ref"`
}

func (c gitlabChange) ref() string { return c.Ref }

type serverChange struct {
	Ref struct {
		ID string `json:"id"`
	} `json:"ref"`
}

func (c serverChange) ref() string { return c.Ref.ID }

// cloudChange has no new when the ref was deleted, and no old when it was created.
type cloudChange struct {
	New, Old struct {
		Type string `json:"type"`
		Name string `json:"name"`
	}
}

func (c cloudChange) ref() string {
	if c.New.Name != "" {
		return fullName(c.New.Type, c.New.Name)
	}

	return fullName(c.Old.Type, c.Old.Name)
}
