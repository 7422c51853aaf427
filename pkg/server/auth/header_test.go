package auth

import (
	"errors"
	"net/http"
	"strings"
	"testing"
)

func TestBearer(t *testing.T) {
	for name, test := range map[string]struct {
		values []string
		token  string
		err    error
	}{
		"good":                  {[]string{"Bearer osd_a-b._~+/c=="}, "osd_a-b._~+/c==", nil},
		"another case":          {[]string{"bEARER x"}, "x", nil},
		"several blanks":        {[]string{"Bearer   x"}, "x", nil},
		"the longest":           {[]string{"Bearer " + strings.Repeat("x", MaxToken)}, strings.Repeat("x", MaxToken), nil},
		"none":                  {nil, "", errNoHeader},
		"two":                   {[]string{"Bearer x", "Bearer x"}, "", errHeaders},
		"two schemes":           {[]string{"Basic x", "Bearer x"}, "", errHeaders},
		"empty":                 {[]string{""}, "", errScheme},
		"no scheme":             {[]string{"x"}, "", errScheme},
		"the scheme alone":      {[]string{"Bearer"}, "", errScheme},
		"no token":              {[]string{"Bearer "}, "", errScheme},
		"blanks":                {[]string{"Bearer     "}, "", errScheme},
		"Basic":                 {[]string{"Basic eDp5"}, "", errScheme},
		"Digest":                {[]string{`Digest username="x"`}, "", errScheme},
		"a scheme like it":      {[]string{"Bearerx x"}, "", errScheme},
		"a blank in front":      {[]string{" Bearer x"}, "", errScheme},
		"a tab":                 {[]string{"Bearer\tx"}, "", errScheme},
		"a blank behind":        {[]string{"Bearer x "}, "", errCharacters},
		"two tokens":            {[]string{"Bearer x y"}, "", errCharacters},
		"a comma":               {[]string{"Bearer x, Bearer y"}, "", errCharacters},
		"a line end":            {[]string{"Bearer x\r\nX-A: b"}, "", errCharacters},
		"a zero":                {[]string{"Bearer x\x00"}, "", errCharacters},
		"not ASCII":             {[]string{"Bearer \u0445"}, "", errCharacters},
		"padding alone":         {[]string{"Bearer ==="}, "", errCharacters},
		"padding in the middle": {[]string{"Bearer a=b"}, "", errCharacters},
		"JSON":                  {[]string{`Bearer {"payload":""}`}, "", errCharacters},
		"too long":              {[]string{"Bearer " + strings.Repeat("x", MaxToken+1)}, "", errLong},
		"100 KiB":               {[]string{strings.Repeat("Bearer ", 100<<10/7)}, "", errLong},
	} {
		token, err := bearer(http.Header{"Authorization": test.values})
		if token != test.token || !errors.Is(err, test.err) {
			t.Errorf("%s: %.40q, %v", name, token, err)
		}
	}
}
