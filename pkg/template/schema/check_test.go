package schema

import (
	"encoding/json"
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"unicode/utf8"
)

// check is as much of a JSON Schema validator as the schema uses. A keyword that it does not know is a fault, so that it
// cannot pass over one.
func check(root, schema map[string]any, value any, at string) (faults []string) {
	fault := func(format string, args ...any) { faults = append(faults, at+": "+fmt.Sprintf(format, args...)) }
	holds := func(s any, v any) bool { return len(check(root, s.(map[string]any), v, at)) == 0 }

	object, isObject := value.(map[string]any)
	array, isArray := value.([]any)
	text, isText := value.(string)
	number, isNumber := asNumber(value)

	for keyword, want := range schema {
		switch keyword {
		case "$schema", "$id", "title", "description", "definitions", "patternErrorMessage", "errorMessage", "then":
		case "$ref":
			definition := root["definitions"].(map[string]any)[strings.TrimPrefix(want.(string), "#/definitions/")]
			faults = append(faults, check(root, definition.(map[string]any), value, at)...)
		case "type":
			names, many := want.([]any)
			if !many {
				names = []any{want}
			}

			fits := false
			for _, name := range names {
				fits = fits || typeOf(value) == name || name == "number" && isNumber
			}

			if !fits {
				fault("%v is not %v", value, want)
			}
		case "required":
			for _, key := range want.([]any) {
				if _, has := object[key.(string)]; isObject && !has {
					fault("no %s", key)
				}
			}
		case "properties":
			for key, property := range want.(map[string]any) {
				if v, has := object[key]; has {
					faults = append(faults, check(root, property.(map[string]any), v, at+"."+key)...)
				}
			}
		case "additionalProperties":
			properties, _ := schema["properties"].(map[string]any)
			for key, v := range object {
				if _, known := properties[key]; known {
					continue
				}

				if want == false {
					fault("unknown key %s", key)
				} else {
					faults = append(faults, check(root, want.(map[string]any), v, at+"."+key)...)
				}
			}
		case "items":
			for i, item := range array {
				faults = append(faults, check(root, want.(map[string]any), item, fmt.Sprintf("%s[%d]", at, i))...)
			}
		case "minItems":
			if isArray && float64(len(array)) < want.(float64) {
				fault("too few items")
			}
		case "minLength":
			if isText && float64(utf8.RuneCountInString(text)) < want.(float64) {
				fault("too short")
			}
		case "pattern":
			if isText && !regexp.MustCompile(want.(string)).MatchString(text) {
				fault("%q does not match %s", text, want)
			}
		case "minimum":
			if isNumber && number < want.(float64) {
				fault("too small")
			}
		case "maximum":
			if isNumber && number > want.(float64) {
				fault("too large")
			}
		case "const":
			if !equal(value, want) {
				fault("is not %v", want)
			}
		case "enum":
			fits := false
			for _, v := range want.([]any) {
				fits = fits || equal(value, v)
			}

			if !fits {
				fault("%v is none of %v", value, want)
			}
		case "allOf":
			for _, s := range want.([]any) {
				faults = append(faults, check(root, s.(map[string]any), value, at)...)
			}
		case "anyOf":
			fits := false
			for _, s := range want.([]any) {
				fits = fits || holds(s, value)
			}

			if !fits {
				fault("none of the alternatives")
			}
		case "not":
			if holds(want, value) {
				fault("what it must not be")
			}
		case "if":
			if then := schema["then"]; holds(want, value) {
				faults = append(faults, check(root, then.(map[string]any), value, at)...)
			}
		default:
			fault("the keyword %s is not known to this test", keyword)
		}
	}

	return faults
}

func asNumber(value any) (float64, bool) {
	switch n := value.(type) {
	case int:
		return float64(n), true
	case float64:
		return n, true
	default:
		return 0, false
	}
}

func typeOf(value any) string {
	switch value := value.(type) {
	case nil:
		return "null"
	case string:
		return "string"
	case bool:
		return "boolean"
	case []any:
		return "array"
	case map[string]any:
		return "object"
	default:
		if n, _ := asNumber(value); n == float64(int64(n)) {
			return "integer"
		}

		return "number"
	}
}

// equal compares a value with one from the schema, as JSON.
func equal(value, want any) bool {
	text, err := json.Marshal(value)
	if err != nil {
		return false
	}

	var same any
	if err := json.Unmarshal(text, &same); err != nil {
		return false
	}

	return reflect.DeepEqual(same, want)
}
