package monitoring

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

const runbookPage = "../../docs/observability.md"

var heading = regexp.MustCompile(`(?m)^### (OmniSyncd\w+)$`)

// Every alert says where its entry in the runbook is, and every entry is of an alert.
func TestRunbook(t *testing.T) {
	var entries []string
	for _, found := range heading.FindAllStringSubmatch(readFile(t, runbookPage), -1) {
		entries = append(entries, found[1])
	}

	var alerts []string

	for _, rule := range rules(t) {
		alerts = append(alerts, rule.Alert)

		if !slices.Contains(entries, rule.Alert) {
			t.Errorf("%s has no entry %s in %s", rule.Alert, "### "+rule.Alert, runbookPage)
		}

		if url := rule.Annotations["runbook_url"]; !strings.HasSuffix(url, "/docs/observability.md#"+strings.ToLower(rule.Alert)) {
			t.Errorf("%s: %s", rule.Alert, url)
		}
	}

	for _, entry := range entries {
		if !slices.Contains(alerts, entry) {
			t.Errorf("%s explains %s, which is no alert", runbookPage, entry)
		}
	}
}
