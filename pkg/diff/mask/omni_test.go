package mask_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/cosi-project/runtime/pkg/resource"
	_ "github.com/siderolabs/omni/client/pkg/omni/resources/registry"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/cosi-project/runtime/pkg/resource/protobuf"

	"github.com/omni-syncd/omni-syncd/pkg/diff"
	"github.com/omni-syncd/omni-syncd/pkg/diff/mask"
	"github.com/omni-syncd/omni-syncd/pkg/render"
)

// fresh is an empty resource of a kind that omni-syncd writes.
func fresh(t *testing.T, kind render.Kind) resource.Resource {
	t.Helper()

	r, err := protobuf.CreateResource(kind.Type)
	if err != nil {
		t.Fatal(err)
	}

	if err := r.Spec().(interface{ UnmarshalProto([]byte) error }).UnmarshalProto(nil); err != nil { //nolint:forcetypeassert
		t.Fatal(err)
	}

	*r.Metadata() = resource.NewMetadata(kind.Namespace, kind.Type, "id", resource.VersionUndefined)

	return r
}

// plant puts a value into every text field of a message, one at a time, and calls back with the message holding it.
func plant(message protoreflect.Message, path, value string, planted func(path string)) {
	fields := message.Descriptor().Fields()

	for i := range fields.Len() {
		field := fields.Get(i)
		at := path + "." + string(field.Name())

		switch {
		case field.IsMap():
			if field.MapValue().Kind() == protoreflect.StringKind {
				message.Mutable(field).Map().Set(protoreflect.ValueOfString("key").MapKey(), protoreflect.ValueOfString(value))
				planted(at + ".key")
			}
		case field.IsList() && field.Kind() == protoreflect.MessageKind:
			plant(message.Mutable(field).List().AppendMutable().Message(), at+"[]", value, planted)
		case field.IsList() && field.Kind() == protoreflect.StringKind:
			message.Mutable(field).List().Append(protoreflect.ValueOfString(value))
			planted(at + "[]")
		case field.Kind() == protoreflect.StringKind:
			message.Set(field, protoreflect.ValueOfString(value))
			planted(at)
		case field.Kind() == protoreflect.MessageKind:
			plant(message.Mutable(field).Message(), at, value, planted)
		}

		message.Clear(field)
	}
}

// everyField calls back with a resource of every kind that holds a value in one of its text fields, and nothing else.
func everyField(t *testing.T, value string, f func(path string, empty, r resource.Resource)) {
	t.Helper()

	for _, kind := range render.Kinds() {
		r := fresh(t, kind)

		r.Metadata().Labels().Set("label", value)
		f(diff.Kind(kind.Type)+" metadata.labels", fresh(t, kind), r)
		r.Metadata().Labels().Delete("label")
		r.Metadata().Annotations().Set("note", value)
		f(diff.Kind(kind.Type)+" metadata.annotations", fresh(t, kind), r)
		r.Metadata().Annotations().Delete("note")

		spec := r.Spec().(interface{ GetValue() proto.Message }).GetValue().ProtoReflect() //nolint:forcetypeassert
		plant(spec, diff.Kind(kind.Type)+" spec", value, func(path string) { f(path, fresh(t, kind), r) })
	}
}

// The golden file says of every text in every resource that omni-syncd writes what happens to a bare word in it, to a
// document, and to a line of parameters. A field that a new Omni brings fails this test.
func TestEveryOmniFieldIsDecided(t *testing.T) {
	verdicts := map[string]string{}

	var paths []string

	for _, value := range []string{canary, "password: " + canary + "\nname: shown\n", "console=tty0 token=" + canary + " https://a:" + canary + "@b"} {
		everyField(t, value, func(path string, empty, r resource.Resource) {
			verdict := "shown"

			text := unified(t, empty, r, mask.Options{})

			switch {
			case !strings.Contains(text, canary) && (strings.Contains(text, "shown") || strings.Contains(text, "console")):
				verdict = "in part"
			case !strings.Contains(text, canary):
				verdict = "secret"
			}

			if verdict == "shown" && value != canary {
				t.Errorf("%s shows the secret of %q:\n%s", path, value, text)
			}

			if verdicts[path] == "" {
				paths = append(paths, path)
			}

			verdicts[path] += fmt.Sprintf("%-9s", verdict)
		})
	}

	var got strings.Builder

	fmt.Fprintln(&got, "word     document parameters")

	for _, path := range paths {
		fmt.Fprintf(&got, "%s%s\n", verdicts[path], path)
	}

	golden(t, "testdata/omni-fields.txt", got.String())
}

// holdsCanary looks for the canary as it is, in base64 and in the escapes that a YAML encoder may write.
func holdsCanary(text string) bool {
	var escaped strings.Builder
	for _, b := range []byte(canary) {
		fmt.Fprintf(&escaped, `\x%02X`, b)
	}

	return strings.Contains(text, canary) || strings.Contains(text, escaped.String()) || strings.Contains(text, base64.StdEncoding.EncodeToString([]byte(canary)))
}

// Nothing that a plan says of a resource holds a secret: not the line of a change, not its fields, not the text.
func TestG9_NoSecretInAnyText(t *testing.T) {
	secret := "https://me:" + canary + "1@host --password=" + canary + "2"

	check := func(path string, before, after resource.Resource) {
		t.Helper()

		if same := unified(t, after, after.DeepCopy(), mask.Options{}); same != "" {
			t.Errorf("%s: what did not change is shown:\n%s", path, same)
		}

		for _, change := range []diff.Change{
			{Action: diff.Create, New: after},
			{Action: diff.Destroy, Old: after},
			{Action: diff.Update, Old: before, New: after, Fields: diff.Fields(before, after)},
			{Action: diff.Update, Old: after, New: before, Fields: diff.Fields(after, before)},
		} {
			var out strings.Builder

			plan := &diff.Plan{Source: "s", Target: "one", Changes: []diff.Change{change}}
			if err := diff.WriteText(&out, plan, diff.TextOptions{Lines: true, Color: true}); err != nil {
				t.Fatal(err)
			}

			out.WriteString(change.Line())

			for _, field := range change.Fields {
				out.WriteString(field.String())
			}

			if holdsCanary(out.String()) {
				t.Errorf("%s, %s:\n%s", path, change.Action, &out)
			}

			if !strings.Contains(out.String(), "(secret") {
				t.Errorf("%s, %s: it is not said that there is a secret:\n%s", path, change.Action, &out)
			}
		}
	}

	everyField(t, secret, check)

	for _, l := range leaves(t) {
		check(l.String(), patch(t, "{}", false), patch(t, l.document(secret), false))
	}

	for _, text := range []string{
		"apiVersion: v1\nkind: Secret\ndata:\n  a: " + canary + "\n",
		"apiVersion: v1\nkind: List\nitems:\n- kind: Secret\n  stringData: {a: " + canary + "}\n",
		"kind: ConfigMap\ndata:\n  app.ini: |\n    [db]\n    password = " + canary + " b\n",
		"kind: ConfigMap\ndata:\n  values.yaml: |\n    db: {password: " + canary + "}\n",
		"kind: ConfigMap\ndata:\n  t.yaml: |\n    kind: Secret\n    data: {{ tpl " + canary + " }}\n",
		"kind: ConfigMap\ndata:\n  tls.key: |\n    -----BEGIN PRIVATE KEY-----\n    " + canary + "\n    -----END PRIVATE KEY-----\n",
		"kind: ConfigMap\ndata:\n  run.sh: |\n    export DB_PASSWORD=" + canary + "\n    : {\n",
		"kind: ConfigMap\nmetadata:\n  annotations:\n    kubectl.kubernetes.io/last-applied-configuration: |\n      {\"kind\":\"Secret\",\"data\":{\"a\":\"" + canary + "\"}}\n",
		"kind: Pod\nspec:\n  containers:\n  - env: [{name: API_KEY, value: " + canary + "}]\n    args: [--token, " + canary + "]\n",
		"secretGenerator:\n- name: a\n  literals: [user=" + canary + "]\n",
		"kind: Config\nusers:\n- name: a\n  user: {token: " + canary + ", client-key-data: " + canary + "}\n",
		"kind: ConfigMap\ndata:\n  a.toml: |\n    password = \"\"\"\n    " + canary + "\n    \"\"\"\n",
		"kind: ConfigMap\ndata:\n  a.sh: |\n    PASSWORD=\"a\n    " + canary + "\"\n    : {\n",
		"kind: ConfigMap\ndata:\n  a.sh: |\n    TOKEN=a\\\n    " + canary + "\n    : {\n",
		"kind: ConfigMap\ndata:\n  a.xml: <db><password>" + canary + "</password></db>\n",
		"kind: Pod\nspec:\n  containers:\n  - command: [sh, -c, 'app --db-password " + canary + " --verbose']\n",
		"kind: ConfigMap\ndata:\n  a.yaml: |\n    password: |\n      " + canary + "\n    b: {{ c\n",
		"kind: X\nproperties: {adminPassword: {value: " + canary + "}}\n",
		"kind: X\nproperties: {adminPassword: {type: string, default: " + canary + "}}\n",
		"apiVersion: v1alpha1\nkind: EnvironmentConfig\nvariables: {kind: x, apiVersion: y, A: " + canary + "}\n",
		"apiVersion: v1alpha1\nkind: Other\nkind: EnvironmentConfig\nvariables: {A: " + canary + "}\n",
		"kind: X\nspec: {template: {stringData: {a: " + canary + "}}}\n",
		"password:\n  " + canary + ":\n",
		"password: {? [" + canary + "] : b}\n",
		"kind: ConfigMap\ndata:\n  t.yaml: |\n    kind: Secret\n    data:\n      a: " + canary + "\n      {{ if b }\n",
		"webhook: https://host/?sig=" + canary + "&a=b\n",
		"tls: {cert: public, key: " + canary + "}\n",
		"# password: " + canary + "\na: b # token=" + canary + "\n",
		"kind: Secret\n<<: &x {data: {a: " + canary + "}}\n",
		"x: &x\n  data: {a: " + canary + "}\ny:\n  kind: Secret\n  <<: [*x]\n",
		"a: &a " + canary + "\n? *a\n: 1\npassword: *a\n",
		"password: !!null " + canary + "\n",
		"password: !!bool " + canary + "\n",
		"!!null " + canary + "\n",
		"password: &a\n  !!str # " + "x\n  \"" + canary + "\"\n",
		"password:\n  nested: [{deep: " + canary + "}]\n",
		"passwords: [" + canary + "]\n",
		"password: >-\n  one\n\n  " + canary + "\n\n\nnext: 1\n",
		"password: one\n  two\n\n  " + canary + "\nnext: 1\n",
		"password: |2-\n    " + canary + "\n   x\nnext: 1\n",
		"\ufeffpassword: " + canary + "\r\nnext: 1\r\n",
		"password: 'it''s " + canary + "'\ntoken: \"a\\\"" + canary + "\"\n",
		"password: \"ä\" # ü\ntoken: " + canary + "\n",
		"password: first\npassword: " + canary + "\n",
		"machine:\n  apiVersion: x\n  kind: y\n  env: {A: " + canary + "}\n",
		`[{"op": "add", "path": "/machine/env", "value": {"A": "` + canary + `"}}]`,
		`[{"op": "add", "path": "/cluster/extraManifestHeaders/X-A", "value": "` + canary + `"}]`,
		`[{"op": "add", "path": "", "value": {"machine": {"files": [{"content": "` + canary + `"}]}}}]`,
		`{"cluster":{"inlineManifests":[{"contents":"kind: Secret\ndata:\n  a: ` + canary + `\n"}]}}`,
		"cluster:\n  inlineManifests:\n  - contents: |\n      {{ no yaml }} " + canary + "\n",
		"- - - " + canary + "\n -\n",
		canary,
		"\x00" + canary,
		"a: \xff" + canary,
		"apiVersion: v1alpha1\nkind: KubeEtcdEncryptionConfig\nconfig:\n  resources:\n  - providers:\n    - aescbc:\n        keys: [{name: a, secret: " + canary + "}]\n",
	} {
		check(text, patch(t, "{}", false), patch(t, text, false))
	}
}
