package schema

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	upstream "github.com/siderolabs/omni/client/pkg/template"
)

// The kinds of document that a template is made of. Upstream keeps its list to itself; a test reads its source to see
// that this one is whole.
var kinds = []string{"Cluster", "ControlPlane", "Machine", "Workers"}

// Kinds returns the kinds of document that a template is made of.
func Kinds() []string { return slices.Clone(kinds) }

// models returns upstream's Go type of every kind. Its package is internal, but its values are not: a document of one
// line is loaded and looked at.
var models = sync.OnceValues(func() (map[string]reflect.Type, error) {
	types := map[string]reflect.Type{}

	for _, kind := range kinds {
		loaded, err := upstream.Load(strings.NewReader("kind: " + kind))
		if err != nil {
			return nil, fmt.Errorf("loading an empty %s with Omni's template code: %w", kind, err)
		}

		list := reflect.ValueOf(loaded).Elem().FieldByName("models")
		if !list.IsValid() || list.Kind() != reflect.Slice || list.Len() != 1 {
			return nil, fmt.Errorf("the template code of Omni's client has changed: it does not hold a %s as a list of models any more", kind)
		}

		model := list.Index(0)
		for model.Kind() == reflect.Interface || model.Kind() == reflect.Pointer {
			model = model.Elem()
		}

		types[kind] = model.Type()
	}

	return types, nil
})

// field is a key of a mapping.
type field struct {
	key   string
	owner string // the Go type that declares it
	typ   reflect.Type
}

// fields returns the keys that a struct is decoded from, those of inlined structs among them, and those that newer clients
// have.
func fields(typ reflect.Type) []field {
	var all []field

	for i := range typ.NumField() {
		f := typ.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")

		switch {
		case name == "-" || !f.IsExported():
		case slices.Contains(strings.Split(options, ","), "inline"):
			all = append(all, fields(f.Type)...)
		default:
			if name == "" {
				name = strings.ToLower(f.Name)
			}

			all = append(all, field{name, typ.Name(), f.Type})
		}
	}

	return append(all, newerFields(typ)...)
}

// plain takes the pointers off a type.
func plain(typ reflect.Type) reflect.Type {
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}

	return typ
}

// decodesItself reports whether a type has a decoder of its own, so that its fields say nothing.
func decodesItself(typ reflect.Type) bool {
	_, ok := reflect.PointerTo(typ).MethodByName("UnmarshalYAML")

	return ok || typ == reflect.TypeFor[time.Duration]()
}

// structs returns every Go type that templates are decoded into key by key, by name.
var structs = sync.OnceValue(func() map[string]reflect.Type {
	all := map[string]reflect.Type{}

	var walk func(typ reflect.Type)

	walk = func(typ reflect.Type) {
		typ = plain(typ)

		switch {
		case decodesItself(typ):
		case typ.Kind() == reflect.Slice:
			walk(typ.Elem())
		case typ.Kind() == reflect.Struct && all[typ.Name()] == nil:
			all[typ.Name()] = typ

			for _, f := range fields(typ) {
				walk(f.typ)
			}
		}
	}

	roots, _ := models() // without them there are no suggestions; JSON says why
	for _, typ := range roots {
		walk(typ)
	}

	return all
})

// Keys returns the keys of one of upstream's types, by the name that its messages call it, sorted; nil if there is no
// such type.
func Keys(typeName string) []string {
	typ := structs()[typeName]
	if typ == nil {
		return nil
	}

	keys := map[string]bool{}
	for _, f := range fields(typ) {
		keys[f.key] = !slices.Contains(forbidden[typeName], f.key)
	}

	maps.DeleteFunc(keys, func(_ string, allowed bool) bool { return !allowed })

	return slices.Sorted(maps.Keys(keys))
}
