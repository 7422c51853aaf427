package mask_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/siderolabs/talos/pkg/machinery/config/config"
	"github.com/siderolabs/talos/pkg/machinery/config/configloader"
	"github.com/siderolabs/talos/pkg/machinery/config/encoder"
	"github.com/siderolabs/talos/pkg/machinery/config/types/v1alpha1"

	"github.com/omni-syncd/omni-syncd/pkg/diff/mask"
)

const canary = "C4naryValue"

// leaf is a field of a Talos document that holds a value of its own.
type leaf struct {
	kind string // "" for v1alpha1.Config
	path []string
}

func (l leaf) String() string {
	kind := l.kind
	if kind == "" {
		kind = "v1alpha1"
	}

	return kind + ": " + strings.Join(l.path, ".")
}

// document is the leaf's document with a value in this field and nothing else.
func (l leaf) document(value string) string {
	text := fmt.Sprintf("%q", value)

	for _, key := range slices.Backward(l.path) {
		if key == "[]" {
			text = "[" + text + "]"
		} else {
			text = fmt.Sprintf("{%q: %s}", strings.ReplaceAll(key, "*", "anything"), text)
		}
	}

	if l.kind != "" {
		text = fmt.Sprintf(`{"apiVersion": "v1alpha1", "kind": %q, %s`, l.kind, text[1:])
	}

	return text
}

// leaves lists every field of every document of the Talos machinery that this module is built with.
func leaves(t *testing.T) []leaf {
	t.Helper()

	all := fields(reflect.TypeFor[v1alpha1.Config](), leaf{}, nil)

	for _, kind := range kinds(t) {
		documents, err := configloader.NewFromBytes([]byte("apiVersion: v1alpha1\nkind: " + kind + "\n"))
		if err != nil {
			t.Fatalf("%s is in the schema of the machinery and not in its code: %v", kind, err)
		}

		all = append(all, fields(reflect.TypeOf(documents.Documents()[0]).Elem(), leaf{kind: kind}, nil)...)
	}

	return all
}

// kinds are read from the schema of the machinery: its registry of documents cannot be asked.
func kinds(t *testing.T) []string {
	t.Helper()

	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/siderolabs/talos/pkg/machinery").Output()
	if err != nil {
		t.Fatal(err)
	}

	data, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "config", "schemas", "config.schema.json"))
	if err != nil {
		t.Fatal(err)
	}

	var schema struct {
		Defs map[string]struct {
			Properties map[string]struct{ Enum []string }
		} `json:"$defs"`
	}

	if err := json.Unmarshal(data, &schema); err != nil {
		t.Fatal(err)
	}

	var kinds []string
	for _, def := range schema.Defs {
		for _, kind := range def.Properties["kind"].Enum {
			if kind == "KubeSpanEndpoints" { // a slip of the schema
				kind = "KubeSpanEndpointsConfig"
			}

			kinds = append(kinds, kind)
		}
	}

	slices.Sort(kinds)

	if len(kinds) < 40 {
		t.Fatalf("only %d kinds of documents in the schema: %v", len(kinds), kinds)
	}

	return slices.Compact(kinds)
}

func fields(t reflect.Type, at leaf, above []reflect.Type) []leaf {
	below := func(keys ...string) leaf { return leaf{at.kind, slices.Concat(at.path, keys)} }

	switch {
	case t.Kind() == reflect.Pointer:
		return fields(t.Elem(), at, above)
	case t.Name() == "PEMEncodedCertificateAndKey", t.Name() == "PEMEncodedKey", t.Name() == "PEMEncodedCertificate":
		var all []leaf

		for i := range t.NumField() {
			all = append(all, below(strings.ToLower(t.Field(i).Name)))
		}

		return all
	case t.Kind() == reflect.Slice && t.Elem().Kind() != reflect.Uint8:
		return fields(t.Elem(), below("[]"), above)
	case t.Kind() == reflect.Map:
		return fields(t.Elem(), below("*"), above)
	case t.Kind() == reflect.Struct && !slices.Contains(above, t):
		var all []leaf

		for i := range t.NumField() {
			field := t.Field(i)
			name, options, _ := strings.Cut(field.Tag.Get("yaml"), ",")

			switch {
			case name == "-", !field.IsExported() && !field.Anonymous:
			case strings.Contains(options, "inline"), field.Anonymous && name == "":
				all = append(all, fields(field.Type, at, append(above, t))...)
			case name != "":
				all = append(all, fields(field.Type, below(name), append(above, t))...)
			}
		}

		if len(all) > 0 {
			return all
		}
	}

	if len(at.path) == 0 {
		return nil
	}

	return []leaf{at}
}

func masked(t *testing.T, text string) string {
	t.Helper()

	out, err := mask.Text(text, mask.Options{})
	if err != nil {
		t.Fatal(err)
	}

	return out
}

// The golden file says of every field of a Talos machine configuration whether its value is masked. A field that an
// upgrade of the machinery brings fails this test until somebody has looked at it and run it with -update.
func TestEveryTalosFieldIsDecided(t *testing.T) {
	var got strings.Builder

	for _, l := range leaves(t) {
		verdict := "shown "
		if !strings.Contains(masked(t, l.document(canary)), canary) {
			verdict = "secret"

			changed := unified(t, patch(t, l.document(canary), false), patch(t, l.document("another value"), false), mask.Options{})
			if !strings.Contains(changed, "(secret, changed)") {
				t.Errorf("%s: it is not said that it changed:\n%s", l, changed)
			}
		}

		fmt.Fprintf(&got, "%s  %s\n", verdict, l)
	}

	golden(t, "testdata/talos-fields.txt", got.String())
}

// What Talos itself redacts is masked here, whatever the golden file says.
func TestWhatTalosRedactsIsMasked(t *testing.T) {
	redacted := 0

	for _, l := range leaves(t) {
		for _, value := range []string{canary, base64.StdEncoding.EncodeToString([]byte(canary))} {
			document := l.document(value)

			provider, err := configloader.NewFromBytes([]byte(document))
			if err != nil {
				continue
			}

			if out := redact(t, provider); strings.Contains(out, value) || !strings.Contains(out, "REDACTED") && !strings.Contains(out, base64.StdEncoding.EncodeToString([]byte("REDACTED"))) {
				continue
			}

			redacted++

			if strings.Contains(masked(t, document), value) {
				t.Errorf("Talos redacts %s, and it is shown here", l)
			}

			break
		}
	}

	if redacted < 25 {
		t.Errorf("only %d fields seem to be redacted by Talos: does this test still work?", redacted)
	}
}

func redact(t *testing.T, provider interface {
	Documents() []config.Document
},
) string {
	t.Helper()

	var out strings.Builder

	for _, document := range provider.Documents() {
		if secret, ok := document.(config.SecretDocument); ok {
			secret.Redact("REDACTED")
		}

		out.WriteString(encode(t, document))
	}

	return out.String()
}

// A value with a login is masked in every field that is shown, and the rest of it is not.
func TestLoginsInEveryShownField(t *testing.T) {
	for _, l := range leaves(t) {
		for value, want := range map[string]string{
			"https://me:" + canary + "@host/path":     "https://(secret)@host/path",
			"https://host/?jointoken=" + canary:       "https://host/?jointoken=(secret)",
			"console=tty0 ip.password=" + canary:      "console=tty0 ip.password=(secret)",
			"--token=" + canary:                       "--token=(secret)",
			"eyJhbGciOiJub25l.eyJzdWIiOiJj." + canary: "(secret)",
		} {
			out := masked(t, l.document(value))
			if strings.Contains(out, canary) {
				t.Errorf("%s: %s", l, out)
			}

			if plain := masked(t, l.document(canary)); strings.Contains(plain, canary) && !strings.Contains(out, want) {
				t.Errorf("%s: %s does not hold %s", l, out, want)
			}
		}
	}
}

func golden(t *testing.T, file, got string) {
	t.Helper()

	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}

		return
	}

	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}

	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("fields came or went, or are decided in another way; see that each is right, then run with -update:\n%s", d)
	}
}

func encode(t *testing.T, document config.Document) string {
	t.Helper()

	out, err := encoder.NewEncoder(document, encoder.WithComments(encoder.CommentsDisabled)).Encode()
	if err != nil {
		t.Fatal(err)
	}

	return string(out)
}
