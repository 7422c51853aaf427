package diff

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/omni-syncd/omni-syncd/pkg/diff/mask"
	livestate "github.com/omni-syncd/omni-syncd/pkg/omni"
)

// Field is one difference between two versions of a resource.
type Field struct {
	// Path is written as in the YAML of the resource: spec.kubernetesversion.
	Path string
	// Old and New are the values in short, "" where there is none, with secrets masked. The payload of
	// a patch or manifest is not shown here, only how many lines of it there are to be seen.
	Old, New string
}

// String returns the field as people read it: spec.kubernetesversion: 1.34.3 → 1.35.5.
func (f Field) String() string {
	switch {
	case f.Old == "":
		return fmt.Sprintf("%s: +%s", f.Path, f.New)
	case f.New == "":
		return fmt.Sprintf("%s: -%s", f.Path, f.Old)
	case f.New == f.Old: // a payload, of which only the size is told
		return fmt.Sprintf("%s: changed, %s", f.Path, f.New)
	default:
		return fmt.Sprintf("%s: %s → %s", f.Path, f.Old, f.New)
	}
}

// isAnnotation reports whether the field is an annotation of that name.
func (f *Field) isAnnotation(name string) bool { return f.Path == "metadata.annotations["+name+"]" }

// maxValue bounds how much of a single value a Field shows.
const maxValue = 60

// Fields names what differs between two versions of one resource: labels, annotations
// and spec, sorted by path, with secrets masked. What the server owns is left out.
func Fields(have, want resource.Resource) []Field { return FieldsWith(have, want, mask.Options{}) }

// FieldsWith is [Fields] with a say in what is masked.
func FieldsWith(have, want resource.Resource, opts mask.Options) []Field {
	equalSpec := livestate.EqualSpec(have, want)

	masking := mask.New
	if equalSpec {
		masking = mask.Metadata // an adoption changes nothing else, and there may be thousands
	}

	masked, err := masking(have, want, opts)
	if err != nil {
		return []Field{{Path: "spec", Old: "(unreadable)", New: "(changed)"}}
	}

	have, want = masked.Old, masked.New

	fields := slices.Concat(
		mapFields("metadata.labels", have.Metadata().Labels().Raw(), want.Metadata().Labels().Raw(), masked),
		mapFields("metadata.annotations", have.Metadata().Annotations().Raw(), want.Metadata().Annotations().Raw(), masked),
	)

	if !equalSpec {
		fields = append(fields, specFields(have, want, masked)...)
	}

	return fields
}

func mapFields(path string, have, want map[string]string, masked *mask.Pair) []Field {
	var fields []Field

	keys := slices.Sorted(maps.Keys(have))
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if _, ok := have[key]; !ok {
			keys = append(keys, key)
		}
	}

	slices.Sort(keys)

	for _, key := range keys {
		oldValue, hadIt := have[key]
		newValue, hasIt := want[key]

		if hadIt == hasIt && oldValue == newValue {
			continue
		}

		oldValue, newValue = masked.Values(oldValue, newValue)

		fields = append(fields, Field{
			Path: path + "[" + key + "]",
			Old:  shown(oldValue, hadIt),
			New:  shown(newValue, hasIt),
		})
	}

	return fields
}

func shown(value string, exists bool) string {
	if !exists {
		return ""
	}

	return short(value)
}

// short returns value on one line, cut to maxValue characters; an empty one is visible.
func short(value string) string {
	if value == "" || !utf8.ValidString(value) || strings.ContainsFunc(value, hidden) {
		value = fmt.Sprintf("%q", value)
	}

	if runes := []rune(value); len(runes) > maxValue {
		return string(runes[:maxValue]) + "…"
	}

	return value
}

// specFields compares the specs message by message.
func specFields(have, want resource.Resource, masked *mask.Pair) []Field {
	oldPayload, newPayload := payload(have), payload(want)
	oldSpec, newSpec := message(have), message(want)

	if oldSpec == nil || newSpec == nil {
		return []Field{{Path: "spec", Old: "(opaque)", New: "(changed)"}}
	}

	flags, newer := newerFields(have, want)
	oldSpec, oldUnknown := livestate.Known(oldSpec, flags...)
	newSpec, newUnknown := livestate.Known(newSpec, flags...)
	reporter := fieldReporter{masked: masked}

	opts := cmp.Options{protocmp.Transform(), cmp.Reporter(&reporter)}
	if oldPayload != "" || newPayload != "" {
		opts = append(opts, cmp.FilterPath(isPayloadField, cmp.Ignore()))
	}

	cmp.Equal(oldSpec, newSpec, opts)

	fields := append(reporter.fields, newer...)

	if oldUnknown != newUnknown { // never their bytes: nobody knows what they are
		fields = append(fields, Field{Path: "spec (fields that this version does not know)", Old: strconv.Itoa(oldUnknown), New: strconv.Itoa(newUnknown)})
	}

	if oldPayload != newPayload {
		fields = append(fields, Field{Path: "spec.data", Old: lines(oldPayload), New: lines(newPayload)})
	}

	return fields
}

// message returns the protobuf message of a spec; nil for a type that has none.
func message(r resource.Resource) proto.Message {
	if spec, ok := r.Spec().(interface{ GetValue() proto.Message }); ok {
		return spec.GetValue()
	}

	return nil
}

// payload returns the decompressed body of a ConfigPatch or manifest; "" for other types.
func payload(r resource.Resource) string {
	data, err := livestate.Payload(r)
	if err != nil {
		return err.Error()
	}

	return string(data)
}

// isPayloadField leaves the two spellings of a payload, compressed or not, to payload.
func isPayloadField(path cmp.Path) bool {
	for _, step := range path {
		if index, ok := step.(cmp.MapIndex); ok {
			return index.Key().String() == "data" || index.Key().String() == "compressed_data"
		}
	}

	return false
}

func lines(payload string) string {
	n := strings.Count(payload, "\n")
	if payload != "" && !strings.HasSuffix(payload, "\n") {
		n++
	}

	if n == 1 {
		return "1 line"
	}

	return fmt.Sprintf("%d lines", n)
}

// fieldReporter collects the leaves that cmp finds different.
type fieldReporter struct {
	masked *mask.Pair
	path   cmp.Path
	fields []Field
}

func (r *fieldReporter) PushStep(step cmp.PathStep) { r.path = append(r.path, step) }
func (r *fieldReporter) PopStep()                   { r.path = r.path[:len(r.path)-1] }

func (r *fieldReporter) Report(result cmp.Result) {
	if result.Equal() {
		return
	}

	oldValue, newValue := r.path.Last().Values()
	oldText, newText := r.masked.Values(text(oldValue), text(newValue))
	r.fields = append(r.fields, Field{Path: "spec" + r.name(), Old: value(oldValue, oldText), New: value(newValue, newText)})
}

// name writes the path as upstream's YAML spells it: lower case, no underscores.
func (r *fieldReporter) name() string {
	var name strings.Builder

	for _, step := range r.path {
		switch step := step.(type) {
		case cmp.MapIndex:
			name.WriteString("." + strings.ReplaceAll(fmt.Sprint(step.Key()), "_", ""))
		case cmp.SliceIndex:
			oldIndex, newIndex := step.SplitKeys()
			fmt.Fprintf(&name, "[%d]", max(oldIndex, newIndex))
		}
	}

	return name.String()
}

// text is a value as it stands, with markers for its secrets.
func text(v reflect.Value) string {
	if !v.IsValid() {
		return ""
	}

	return fmt.Sprint(v.Interface())
}

// value shortens the text of a value.
func value(v reflect.Value, text string) string {
	if !v.IsValid() {
		return ""
	}

	if _, ok := v.Interface().(string); ok && strings.Contains(text, "\n") {
		return lines(text) // a manifest
	}

	return short(text)
}
