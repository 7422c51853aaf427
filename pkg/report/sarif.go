package report

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"path"
	"slices"
	"strings"
)

// SARIFOptions says what a SARIF log tells about its origin.
type SARIFOptions struct {
	// Tool is the name of the program; "omni-syncd" if empty.
	Tool string
	// Version is the program's; left out if empty.
	Version string
	// Rules describes the rules in a sentence each, by their IDs. A finding whose rule is not
	// here is written all the same.
	Rules map[string]string
	// Root is where a finding is put that is about no file, like a cluster that left Git: a
	// file or a folder; "." if empty. GitHub refuses a log in which one has no place.
	Root string
}

// MaxResults bounds a log. GitHub takes 25,000 results and shows 5,000. What is over it is
// left out from the end, and the log says so.
const MaxResults = 5000

// WriteSARIF writes findings as a SARIF 2.1.0 log of one run, in the order of [Sort]. No
// findings are a log, too: it says that everything was looked at and nothing was found.
func WriteSARIF(w io.Writer, findings []Finding, opts SARIFOptions) error {
	findings = Sort(slices.Clone(findings))
	left := max(len(findings)-MaxResults, 0)
	findings = findings[:len(findings)-left]

	tool := sarifTool{Driver: sarifDriver{Name: opts.Tool, Version: opts.Version}}
	if tool.Driver.Name == "" {
		tool.Driver.Name = "omni-syncd"
	}

	index := map[string]int{}

	for _, id := range ruleIDs(findings) {
		index[id] = len(tool.Driver.Rules)
		rule := sarifRule{ID: id}

		if text := opts.Rules[id]; text != "" {
			rule.Short = &sarifText{text}
		}

		tool.Driver.Rules = append(tool.Driver.Rules, rule)
	}

	run := sarifRun{
		Tool: tool, ColumnKind: "unicodeCodePoints", Results: []sarifResult{},
		Invocations: []sarifInvocation{{Successful: true}},
	}

	for i := range findings {
		run.Results = append(run.Results, result(&findings[i], index[findings[i].Rule], cmp.Or(opts.Root, ".")))
	}

	if left > 0 {
		run.Invocations[0].Notes = []sarifNotification{{
			Level: Warning, Message: sarifText{fmt.Sprintf("%d more findings are left out of this log", left)},
		}}
	}

	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")

	return encoder.Encode(sarifLog{
		Schema: "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json", Version: "2.1.0", Runs: []sarifRun{run},
	})
}

func ruleIDs(findings []Finding) []string {
	var ids []string
	for i := range findings {
		ids = append(ids, findings[i].Rule)
	}

	slices.Sort(ids)

	return slices.Compact(ids)
}

func result(f *Finding, rule int, root string) sarifResult {
	r := sarifResult{RuleID: f.Rule, RuleIndex: rule, Level: f.Level, Message: sarifText{f.Message}}

	// The place is left out: a finding is the same one after a line was added above it.
	sum := sha256.Sum256([]byte(strings.Join([]string{f.Rule, f.File, f.Target, f.Message}, "\x00")))
	r.Fingerprints = map[string]string{"omniSyncd/v1": hex.EncodeToString(sum[:])}

	if f.Target != "" {
		r.Properties = map[string]string{"cluster": f.Target}
	}

	place := sarifPhysical{Artifact: sarifArtifact{URI: uri(cmp.Or(f.File, root)), Base: "%SRCROOT%"}}

	if f.File != "" && f.Line > 0 {
		place.Region = &sarifRegion{Line: f.Line, Column: f.Column}
	}

	r.Locations = []sarifLocation{{Physical: place}}

	return r
}

// uri returns a file of the repository as a relative reference. It is cleaned as an absolute
// path first, so that no name leads out of the repository or looks like a scheme or a host.
func uri(file string) string {
	return (&url.URL{Path: cmp.Or(strings.TrimPrefix(path.Clean("/"+file), "/"), ".")}).String()
}

// The part of SARIF 2.1.0 that is used. The names in JSON are the standard's.
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}

	sarifRun struct {
		Tool        sarifTool         `json:"tool"`
		Invocations []sarifInvocation `json:"invocations"`
		ColumnKind  string            `json:"columnKind"`
		Results     []sarifResult     `json:"results"`
	}

	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}

	sarifDriver struct {
		Name    string      `json:"name"`
		Version string      `json:"version,omitempty"`
		Rules   []sarifRule `json:"rules,omitempty"`
	}

	sarifRule struct {
		ID    string     `json:"id"`
		Short *sarifText `json:"shortDescription,omitempty"`
	}

	sarifInvocation struct {
		Successful bool                `json:"executionSuccessful"`
		Notes      []sarifNotification `json:"toolExecutionNotifications,omitempty"`
	}

	sarifNotification struct {
		Level   Level     `json:"level"`
		Message sarifText `json:"message"`
	}

	sarifResult struct {
		RuleID       string            `json:"ruleId"`
		RuleIndex    int               `json:"ruleIndex"`
		Level        Level             `json:"level"`
		Message      sarifText         `json:"message"`
		Locations    []sarifLocation   `json:"locations,omitempty"`
		Fingerprints map[string]string `json:"partialFingerprints"`
		Properties   map[string]string `json:"properties,omitempty"`
	}

	sarifText struct {
		Text string `json:"text"`
	}

	sarifLocation struct {
		Physical sarifPhysical `json:"physicalLocation"`
	}

	sarifPhysical struct {
		Artifact sarifArtifact `json:"artifactLocation"`
		Region   *sarifRegion  `json:"region,omitempty"`
	}

	sarifArtifact struct {
		URI  string `json:"uri"`
		Base string `json:"uriBaseId"`
	}

	sarifRegion struct {
		Line   int `json:"startLine"`
		Column int `json:"startColumn,omitempty"`
	}
)
