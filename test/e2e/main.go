// Command e2e names the Omni that `make e2e` runs against, and ends with an error if that cannot be reached: a result
// says little without the version of the server.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/cosi-project/runtime/pkg/safe"
	"github.com/siderolabs/omni/client/pkg/omni/resources/system"

	"github.com/omni-syncd/omni-syncd/pkg/omni"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
}

func run() error {
	endpoint := os.Getenv("OMNI_ENDPOINT")

	conn, err := omni.Dial(omni.ConnConfig{Endpoint: endpoint, ServiceAccountKey: os.Getenv("OMNI_SERVICE_ACCOUNT_KEY"), UserAgent: "omni-syncd/e2e"})
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // nothing is lost with a connection

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	// It explains what is wrong better than a read does.
	if err := conn.Check(ctx); err != nil {
		return err
	}

	version, err := safe.StateGetByID[*system.SysVersion](ctx, conn.State(), system.SysVersionID)
	if err != nil {
		return fmt.Errorf("read the version of Omni: %w", err)
	}

	_, err = fmt.Printf("e2e: Omni %s at %s\n", version.TypedSpec().Value.GetBackendVersion(), endpoint)

	return err
}
