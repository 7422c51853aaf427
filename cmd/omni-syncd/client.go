package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"
	"unicode"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"gopkg.in/yaml.v3"

	v1 "github.com/omni-syncd/omni-syncd/api/omnisyncd/v1"
	"github.com/omni-syncd/omni-syncd/api/omnisyncd/v1/omnisyncdv1connect"
)

const (
	// callTimeout bounds a call that does not wait for anything.
	callTimeout = 30 * time.Second
	// completionTimeout bounds what a shell waits for.
	completionTimeout = 2 * time.Second
	// maxAnswer is how large an answer may be: 1,000 sources with 10,000 clusters and their texts.
	maxAnswer = 256 << 20
)

// clientFlags say which daemon to talk to.
type clientFlags struct{ socket string }

func (f *clientFlags) bind(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.socket, "socket", "", "unix socket of the daemon (default: omni-syncd.sock in $RUNTIME_DIRECTORY or $XDG_RUNTIME_DIR, else "+serviceSocket+")")
}

// client is a daemon's API.
type client struct {
	omnisyncdv1connect.StatusServiceClient

	operator omnisyncdv1connect.OperatorServiceClient
	socket   string
}

// open returns the API of the daemon. Whether there is one shows with the first call.
func (f *clientFlags) open() *client {
	path := f.socket

	if path == "" {
		path = cmp.Or(defaultSocket(), serviceSocket)
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			path = serviceSocket
		}
	}

	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
		DisableCompression: true, // it does not leave the machine
	}

	const url = "http://omni-syncd" // nobody resolves it

	http := &http.Client{Transport: transport}
	limit := connect.WithReadMaxBytes(maxAnswer)

	return &client{
		omnisyncdv1connect.NewStatusServiceClient(http, url, limit, connect.WithAcceptCompression("gzip", nil, nil)),
		omnisyncdv1connect.NewOperatorServiceClient(http, url, limit, connect.WithAcceptCompression("gzip", nil, nil)), path,
	}
}

// explain makes the error of a call one that says what to do.
func (c *client) explain(err error) error {
	var failed *connect.Error

	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("no daemon listens at %s: is `omni-syncd run` running as this user? --socket names another place; `omni-syncd sync --dry-run` asks Omni itself", c.socket)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("the daemon at %s belongs to another user: only that user and root may ask it", c.socket)
	case errors.As(err, &failed) && connect.IsWireError(err):
		return errors.New(printable(failed.Message()))
	default:
		return fmt.Errorf("asking the daemon at %s: %w", c.socket, err)
	}
}

// completeClusters offers the names of the clusters that the daemon knows.
func (f *clientFlags) completeClusters(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}

	ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
	defer cancel()

	res, err := f.open().ListClusters(ctx, connect.NewRequest(&v1.ListClustersRequest{}))
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}

	var names []string

	for _, c := range res.Msg.GetClusters() {
		if c.GetName() != "" {
			names = append(names, c.GetName())
		}
	}

	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeSources offers the names of the sources that the daemon knows.
func (f *clientFlags) completeSources(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
	defer cancel()

	res, err := f.open().ListSources(ctx, connect.NewRequest(&v1.ListSourcesRequest{}))
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}

	var names []string
	for _, s := range res.Msg.GetSources() {
		names = append(names, s.GetName())
	}

	return names, cobra.ShellCompDirectiveNoFileComp
}

// checkOutput returns an error if a verb cannot write in a format.
func checkOutput(format string) error {
	switch format {
	case "", "json", "yaml":
		return nil
	default:
		return fmt.Errorf("-o %q: use json or yaml", format)
	}
}

// raw is a message as JSON, with the names of the API and all its fields.
func raw(message proto.Message) (json.RawMessage, error) {
	return protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(message)
}

// writeRaw writes what is marshalled to JSON as JSON, indented, or as YAML.
func writeRaw(w io.Writer, format string, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}

	var out bytes.Buffer

	if format == "yaml" {
		var node yaml.Node
		if err := yaml.Unmarshal(data, &node); err != nil {
			return err
		}

		plain(&node)

		encoder := yaml.NewEncoder(&out)
		encoder.SetIndent(2)

		if err := errors.Join(encoder.Encode(&node), encoder.Close()); err != nil {
			return err
		}
	} else {
		if err := json.Indent(&out, data, "", "  "); err != nil {
			return err
		}

		out.WriteByte('\n')
	}

	_, err = w.Write(out.Bytes())

	return err
}

// plain takes the look of JSON off YAML.
func plain(node *yaml.Node) {
	node.Style = 0
	for _, child := range node.Content {
		plain(child)
	}
}

// printable makes a text that somebody else wrote fit for a terminal.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || unicode.IsPrint(r) {
			return r
		}

		return '?'
	}, text)
}
