package omni

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/siderolabs/omni/client/pkg/omni/resources"
	"github.com/siderolabs/omni/client/pkg/omni/resources/system"
	"google.golang.org/grpc/codes"
)

// checkTimeout bounds Check, name resolution and handshake included.
const checkTimeout = 15 * time.Second

// Check asks Omni for its version, which every service account may read, whatever its role. A nil error means that Omni
// is there and accepts the key. Otherwise the error is one line that says what is wrong and what to do; [Transient] and
// [Rejected] tell whether trying again can help.
func (c *Conn) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()

	_, err := c.state.Get(ctx, resource.NewMetadata(resources.EphemeralNamespace, system.SysVersionType, system.SysVersionID, resource.VersionUndefined))
	if err == nil || state.IsNotFoundError(err) {
		return nil
	}

	return explained{text: c.explain(err), err: err}
}

func (c *Conn) explain(err error) string {
	message := Message(err)
	contains := func(parts ...string) bool {
		for _, part := range parts {
			if strings.Contains(message, part) {
				return true
			}
		}

		return false
	}

	switch {
	case code(err) == codes.Canceled:
		return fmt.Sprintf("connecting to Omni at %s was interrupted", c.endpoint)
	case contains("certificate signed by unknown authority", "certificate is not trusted"):
		if c.usesCA {
			return fmt.Sprintf("Omni at %s shows a certificate that neither the system nor the file of --omni-ca-file vouches for: %s", c.endpoint, message)
		}

		return fmt.Sprintf("Omni at %s shows a certificate of an authority this system does not know; give its PEM file with --omni-ca-file: %s", c.endpoint, message)
	case contains("x509:", "tls:"):
		return fmt.Sprintf("no secure connection to Omni at %s: %s", c.endpoint, message)
	case code(err) == codes.Unauthenticated:
		return fmt.Sprintf("Omni at %s does not accept the service account key: it is unknown there, has expired or was revoked (or this machine's clock is wrong); "+
			"create one with `omnictl serviceaccount create`", c.endpoint)
	case code(err) == codes.Unimplemented, contains("unexpected HTTP status code", "unexpected content-type", "server preface"):
		return fmt.Sprintf("%s answers, but not as an Omni does; OMNI_ENDPOINT is the address of its web interface: %s", c.endpoint, message)
	case code(err) == codes.DeadlineExceeded:
		return fmt.Sprintf("no answer from Omni at %s within %s", c.endpoint, checkTimeout)
	case code(err) == codes.Unavailable:
		return fmt.Sprintf("cannot reach Omni at %s: %s", c.endpoint, message)
	default:
		return fmt.Sprintf("Omni at %s answers with an error: %s", c.endpoint, message)
	}
}

// explained shows its own text and keeps the cause for errors.Is, Transient, Rejected and the like.
type explained struct {
	text string
	err  error
}

func (e explained) Error() string { return e.text }
func (e explained) Unwrap() error { return e.err }
