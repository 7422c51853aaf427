package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
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
	"github.com/omni-syncd/omni-syncd/pkg/omni"
)

const (
	// callTimeout bounds a call that does not wait for anything.
	callTimeout = 30 * time.Second
	// completionTimeout bounds what a shell waits for.
	completionTimeout = 2 * time.Second
	// maxAnswer is how large an answer may be: 1,000 sources with 10,000 clusters and their texts.
	maxAnswer = 256 << 20
)

// Names of the environment that say which daemon to ask, and as who.
const (
	envServer = "OMNI_SYNCD_SERVER"
	envToken  = "OMNI_SYNCD_TOKEN"
)

// clientFlags say which daemon to talk to. There is no flag for the token: a command line
// is visible to every user of the machine.
type clientFlags struct {
	socket    string
	server    string
	tokenFile string
	caFile    string
}

func (f *clientFlags) bind(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.socket, "socket", "", "unix socket of the daemon (default: omni-syncd.sock in $RUNTIME_DIRECTORY or $XDG_RUNTIME_DIR, else "+serviceSocket+")")
	flags.StringVar(&f.server, "server", "", "URL of the daemon, https://host:port, instead of a socket (default $"+envServer+")")
	flags.StringVar(&f.tokenFile, "token-file", "", "file with the token for --server (default $"+envToken+")")
	flags.StringVar(&f.caFile, "ca-file", "", "certificates (PEM) to trust besides the system's, for --server")
}

// client is a daemon's API.
type client struct {
	omnisyncdv1connect.StatusServiceClient

	operator omnisyncdv1connect.OperatorServiceClient
	access   omnisyncdv1connect.AccessServiceClient
	// at is where the daemon is: a path or a URL.
	at string
}

// open returns the API of the daemon. Whether there is one shows with the first call.
func (f *clientFlags) open() (*client, error) {
	server := firstOf(f.server, os.Getenv(envServer))

	switch {
	case f.socket != "" && f.server != "":
		return nil, errors.New("both --socket and --server are given; choose one")
	case (f.tokenFile != "" || f.caFile != "") && (f.socket != "" || server == ""):
		return nil, errors.New("--token-file and --ca-file are for a daemon on the network: name it with --server or $" + envServer)
	}

	if f.socket == "" && server != "" {
		return f.openServer(server)
	}

	path := f.path()
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
		DisableCompression: true, // it does not leave the machine
	}

	const url = "http://omni-syncd" // nobody resolves it

	return newClient(&http.Client{Transport: transport}, url, path, connect.WithAcceptCompression("gzip", nil, nil)), nil
}

func newClient(http connect.HTTPClient, url, at string, opts ...connect.ClientOption) *client {
	opts = append(opts, connect.WithReadMaxBytes(maxAnswer))

	return &client{
		omnisyncdv1connect.NewStatusServiceClient(http, url, opts...),
		omnisyncdv1connect.NewOperatorServiceClient(http, url, opts...),
		omnisyncdv1connect.NewAccessServiceClient(http, url, opts...), at,
	}
}

// path is the socket to ask at, there or not.
func (f *clientFlags) path() string {
	if f.socket != "" {
		return f.socket
	}

	path := cmp.Or(defaultSocket(), serviceSocket)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return serviceSocket
	}

	return path
}

// direct reports whether to ask Omni itself: nobody names a daemon, none has its socket at
// the usual places, and the environment names an Omni.
func (f *clientFlags) direct() bool {
	if f.socket != "" || f.tokenFile != "" || f.caFile != "" || firstOf(f.server, os.Getenv(envServer)) != "" || os.Getenv(envEndpoint) == "" {
		return false
	}

	_, err := os.Lstat(f.path())

	return errors.Is(err, fs.ErrNotExist)
}

// openServer returns the API of a daemon on another machine.
func (f *clientFlags) openServer(server string) (*client, error) {
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.User != nil || u.RawQuery != "" {
		return nil, errors.New("--server, or $" + envServer + ", is no URL like https://omni-syncd.example.com:8443")
	}

	token := os.Getenv(envToken)

	if f.tokenFile != "" {
		data, err := os.ReadFile(f.tokenFile)
		if err != nil {
			return nil, fmt.Errorf("reading the token: %w", withoutKey(err))
		}

		token = string(data)
	}

	if token = strings.TrimSpace(token); token == "" {
		return nil, errors.New("no token: set $" + envToken + " or --token-file; `omni-syncd token` makes one for the daemon's tokensFile")
	}

	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, errors.New("the token holds blanks or other characters that no token has; is it another file?")
	}

	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}

	if f.caFile != "" {
		if transport.TLSClientConfig.RootCAs, err = omni.RootCAs(f.caFile); err != nil {
			return nil, err
		}
	}

	bearer := &bearerTransport{transport, token}

	return newClient(&http.Client{Transport: bearer, CheckRedirect: noRedirect}, "https://"+u.Host, "https://"+u.Host), nil
}

// noRedirect keeps the token from being sent anywhere else.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// bearerTransport says with every request who asks.
type bearerTransport struct {
	http.RoundTripper

	token string
}

func (t *bearerTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+t.token)

	return t.RoundTripper.RoundTrip(r)
}

// explain makes the error of a call one that says what to do.
func (c *client) explain(err error) error {
	var failed *connect.Error

	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("no daemon listens at %s: is `omni-syncd run` running as this user? --socket and --server name another place; `omni-syncd sync --dry-run` asks Omni itself", c.at)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("the daemon at %s belongs to another user: only that user and root may ask it", c.at)
	case errors.As(err, new(x509.UnknownAuthorityError)):
		return fmt.Errorf("the certificate of %s is of an authority that this machine does not know: name it with --ca-file", c.at)
	case errors.As(err, &failed) && connect.IsWireError(err):
		return errors.New(printable(failed.Message()))
	default:
		return fmt.Errorf("asking the daemon at %s: %w", c.at, err)
	}
}

// completeClusters offers the names of the clusters that the daemon knows.
func (f *clientFlags) completeClusters(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}

	ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
	defer cancel()

	c, err := f.open()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}

	res, err := c.ListClusters(ctx, connect.NewRequest(&v1.ListClustersRequest{}))
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

	c, err := f.open()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}

	res, err := c.ListSources(ctx, connect.NewRequest(&v1.ListSourcesRequest{}))
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
