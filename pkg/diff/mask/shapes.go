package mask

import (
	"encoding/base64"
	"regexp"
	"strings"
)

// Shapes are what a secret looks like, wherever it stands: in a value, in a part of one, in a comment.
var shapes = []struct {
	has     []string // one of these must occur, which is cheap to ask
	pattern *regexp.Regexp
	group   int // what of the match is secret
}{
	{[]string{"PRIVATE KEY"}, regexp.MustCompile(`-----BEGIN [A-Z0-9 ]*PRIVATE KEY[A-Z ]*-----(?s:.*?)(?:-----END [A-Z0-9 ]*PRIVATE KEY[A-Z ]*-----|\z)`), 0},
	{[]string{"AGE-SECRET-KEY-"}, regexp.MustCompile(`AGE-SECRET-KEY-[A-Za-z0-9-]+`), 0},
	{[]string{"eyJ"}, regexp.MustCompile(`\beyJ[\w-]{8,}(?:\.[\w-]*){2,4}`), 0},
	{
		[]string{"gh", "glpat", "xox", "tskey", "_live_", "hvs.", "dckr_", "npm_", "AIza"},
		regexp.MustCompile(`\b(?:gh[pousr]_|github_pat_|glpat-|xox[abposr]-|tskey-|[rs]k_live_|hvs\.|dckr_pat_|npm_|AIza)[\w.-]{16,}`), 0,
	},
	// The user of a URL may be a token as well as its password may.
	{[]string{"://"}, regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*://([^\s/?#"'<>]*)@`), 1},
	// A password that holds a "/" ends the authority early: what follows "user:" is not a port then.
	{[]string{"://"}, regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*://([^\s/?#"'<>:@]+:(?:[^\s"'<>@0-9/]|[0-9]+[^\s"'<>@0-9/])[^\s"'<>]*)@`), 1},
	{[]string{"iscsi:"}, regexp.MustCompile(`\biscsi:([^\s@"']+)@`), 1},
	{[]string{"earer ", "asic ", "EARER ", "ASIC "}, regexp.MustCompile(`\A\s*(?i:bearer|basic)\s+(\S+)\s*\z`), 1},
	{[]string{"uthorization", "UTHORIZATION"}, regexp.MustCompile(`(?i)\bauthorization["'\\]*\s*[:=]\s*["'\\]*(?:[a-z][\w-]*[ \t]+)?([^\s"'\\]+)`), 1},
	{[]string{"earer ", "EARER "}, regexp.MustCompile(`\b(?i:bearer)[ \t]+([\w.~+/=-]{16,})`), 1},
	// X-Vault-Token: value, wherever it stands in a command.
	{
		[]string{"X-", "x-"},
		regexp.MustCompile(`\b(?i:x-(?:[\w-]*-)?(?:key|token|secret|password|auth|signature))["'\\]*[ \t]*[:=][ \t]*["'\\]*([^\s"'\\]+)`), 1,
	},
	{[]string{"curl"}, regexp.MustCompile(`(?:^|[\s"'])(?:-[uU][ \t]*|--(?:proxy-)?user(?:[ \t]+|=))["']?([^\s"':]*:[^\s"']+)`), 1},
	// netrc, and configurations of a word and its value.
	{[]string{"password"}, regexp.MustCompile(`\b(?:machine|login|account|default)(?:[ \t]+\S+)?\s+password\s+(\S+)`), 1},
	{[]string{"pass", "auth"}, regexp.MustCompile(`(?m)^[ \t]*(?:password|passwd|requirepass|masterauth)[ \t]+(\S+)[ \t]*$`), 1},
	// user:password@host, an endpoint without a scheme.
	{[]string{"@"}, regexp.MustCompile(`\A([^\s:/@]+:[^\s@]+)@(?:[\w.-]+|\[[0-9a-fA-F:]+\])(?::[0-9]+)?\z`), 1},
	{[]string{"."}, regexp.MustCompile(`\A[a-z0-9]{6}\.[a-z0-9]{16}\z`), 0}, // a bootstrap token of kubeadm and Talos
}

var (
	// encodedPEM is base64 of "-----BEGIN".
	encodedPEM = regexp.MustCompile(`LS0tLS1CRUdJT[A-Za-z0-9+/=\s]*`)
	// word=value; name: value at the start of a line; both perhaps in quotes.
	assigned = regexp.MustCompile(`["']?([\w.%-]*[\w])["']?(=|[ \t]+=[ \t]*)`)
	labelled = regexp.MustCompile(`(?m)^[ \t>#/;*-]*(?:export[ \t]+)?["']?([\w.-]*[\w])["']?[ \t]*([:=])[ \t]*`)
	// --flag value
	flagged = regexp.MustCompile(`(?:^|\s)--?([\w.-]*[\w])[ \t]+`)
	// <element>value
	// 'Private-Token: value', a header among arguments
	header  = regexp.MustCompile(`["']([A-Za-z][\w-]*):[ \t]+([^"'\r\n]+)["']`)
	element = regexp.MustCompile(`<([\w:.-]+)>\s*([^<]+)`)
	inFlow  = regexp.MustCompile(`[{,]\s*["']?([\w.-]*[\w])["']?\s*:\s*`)
)

// free finds the secrets in a text without structure.
func free(text string) []span {
	var found []span

	add := func(start, end int) {
		if start < end {
			found = append(found, span{start: start, end: end})
		}
	}

	for _, shape := range shapes {
		if !containsAny(text, shape.has) {
			continue
		}

		for _, at := range shape.pattern.FindAllStringSubmatchIndex(text, -1) {
			start, end := at[2*shape.group], at[2*shape.group+1]
			if shape.group == 1 && text[start:end] == "git" { // git@host is how everybody logs in to a forge by SSH
				continue
			}

			add(start, end)
		}
	}

	if strings.Contains(text, "LS0tLS1CRUdJT") {
		for _, at := range encodedPEM.FindAllStringIndex(text, -1) {
			if encodesPrivateKey(text[at[0]:at[1]]) {
				add(at[0], at[1])
			}
		}
	}

	if strings.Contains(text, "=") {
		for _, at := range assigned.FindAllStringSubmatchIndex(text, -1) {
			name := text[at[2]:at[3]]
			query := at[0] > 0 && strings.IndexByte("?&#", text[at[0]-1]) >= 0

			if sensitive(name) || query && queryNames[dashes.Replace(strings.ToLower(name))] {
				add(at[1], at[1]+valueEnd(text[at[1]:], query))
			}
		}
	}

	if strings.ContainsAny(text, ":=") {
		continued := 0

		for _, at := range labelled.FindAllStringSubmatchIndex(text, -1) {
			if sensitive(text[at[2]:at[3]]) {
				add(at[1], at[1]+labelledEnd(text, at[0], at[1], &continued))
			}
		}

		for _, at := range inFlow.FindAllStringSubmatchIndex(text, -1) {
			if sensitive(text[at[2]:at[3]]) {
				add(at[1], at[1]+valueEnd(text[at[1]:], false))
			}
		}
	}

	if strings.Contains(text, "-") {
		for _, at := range flagged.FindAllStringSubmatchIndex(text, -1) {
			if sensitive(text[at[2]:at[3]]) && !strings.HasPrefix(text[at[1]:], "-") {
				add(at[1], at[1]+valueEnd(text[at[1]:], false))
			}
		}
	}

	if strings.Contains(text, ": ") {
		for _, at := range header.FindAllStringSubmatchIndex(text, -1) {
			if sensitive(text[at[2]:at[3]]) {
				add(at[4], at[5])
			}
		}
	}

	if strings.Contains(text, ">") {
		for _, at := range element.FindAllStringSubmatchIndex(text, -1) {
			if sensitive(text[at[2]:at[3]]) {
				add(at[4], at[5])
			}
		}
	}

	return found
}

func containsAny(text string, parts []string) bool {
	for _, part := range parts {
		if strings.Contains(text, part) {
			return true
		}
	}

	return false
}

// valueEnd is where the value of name=value ends: with its quotes, or else with the word.
func valueEnd(text string, query bool) int {
	if text == "" {
		return 0
	}

	if quote := text[0]; quote == '"' || quote == '\'' {
		for i := 1; i < len(text); i++ {
			if text[i] == '\\' {
				i++
			} else if text[i] == quote {
				return i + 1
			}
		}

		return len(text)
	}

	stop := " \t\r\n"
	if query {
		stop += "&#\"'"
	}

	if end := strings.IndexAny(text, stop); end >= 0 {
		return end
	}

	return len(text)
}

// lineEnd is where a line ends, without the blanks at its end.
func lineEnd(text string) int {
	if end := strings.IndexAny(text, "\r\n"); end >= 0 {
		text = text[:end]
	}

	return len(strings.TrimRight(text, " \t"))
}

// labelledEnd is where the value of "name: value" ends, that begins at start in a line that begins at line: with the line,
// or with what is indented below it if there is nothing in the line but the head of a block.
//
// A value whose lines end with a backslash may hold many names: continued keeps where the last of these values ended, so that the
// way to there is gone once.
func labelledEnd(text string, line, start int, continued *int) int {
	rest := text[start:]

	end := lineEnd(rest)

	switch {
	case strings.HasPrefix(rest, `"""`), strings.HasPrefix(rest, "'''"):
		if closed := strings.Index(rest[3:], rest[:3]); closed >= 0 {
			return 3 + closed + 3
		}

		return len(rest)
	case rest != "" && (rest[0] == '"' || rest[0] == '\''):
		return max(end, valueEnd(rest, false))
	}

	goesOn := strings.HasSuffix(rest[:end], `\`)
	if goesOn && start < *continued {
		return *continued - start
	}

	for strings.HasSuffix(rest[:end], `\`) && end < len(rest) { // goes on in the next line
		next := strings.IndexByte(rest[end:], '\n')
		if next < 0 {
			break
		}

		end += next + 1
		end += lineEnd(rest[end:])
	}

	if goesOn {
		*continued = start + end
	}

	if strings.Trim(rest[:end], "|>+-0123456789\\ \t") != "" {
		return end
	}

	indent := strings.IndexFunc(text[line:], notBlank)

	for at := end; ; {
		next := strings.IndexByte(rest[at:], '\n')
		if next < 0 {
			return end
		}

		at += next + 1
		here := lineEnd(rest[at:])

		if here == 0 {
			continue
		}

		if strings.IndexFunc(rest[at:], notBlank) <= indent {
			return end
		}

		end = at + here
	}
}

func notBlank(r rune) bool { return r != ' ' && r != '\t' && r != '#' }

func encodesPrivateKey(text string) bool {
	text = strings.NewReplacer("\n", "", "\r", "", " ", "", "\t", "").Replace(text)
	head := text[:min(len(text), 100)/4*4]

	decoded, err := base64.StdEncoding.DecodeString(head)

	return err != nil || strings.Contains(string(decoded), "PRIVATE KEY")
}

// sealed reports whether a value was encrypted by SOPS, and is in Git to be seen.
func sealed(value string) bool { return sopsValue.MatchString(value) }

var sopsValue = regexp.MustCompile(`\AENC\[AES256_GCM,data:[A-Za-z0-9+/=]*,iv:[A-Za-z0-9+/=]+,tag:[A-Za-z0-9+/=]+,type:\w+\]\z`)
