package helm

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What is nonsense is refused, and the message says where it is or what to do.
func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		want []string
	}{
		"no image":               {[]string{"--set", "image.repository="}, []string{"image.repository: it is missing", "make image"}},
		"no endpoint":            {[]string{"--set", "omni.endpoint="}, []string{"omni.endpoint: it is missing; give the URL of your Omni"}},
		"no key":                 {[]string{"--set", "omni.existingSecret="}, []string{"omni.existingSecret: it is missing", "kubectl -n omni create secret generic omni-syncd-omni --from-file=omni-key=FILE"}},
		"no sources":             {[]string{"--set", "config.sources=null"}, []string{"config.sources: there is none"}},
		"empty sources":          {[]string{"--set-json", "config.sources=[]"}, []string{"config.sources: there is none"}},
		"all at once":            {[]string{"--set", "image.repository=,omni.endpoint=,replicas=2,shards=2"}, []string{"image.repository", "omni.endpoint", "replicas: with shards"}},
		"plain http":             {[]string{"--set", "omni.endpoint=http://omni.example.com"}, []string{"omni.endpoint: it has to be https://"}},
		"no scheme":              {[]string{"--set", "omni.endpoint=omni.example.com"}, []string{"omni.endpoint: it has to be https://"}},
		"a path behind Omni":     {[]string{"--set", "omni.endpoint=https://omni.example.com/omni"}, []string{"omni.endpoint: it has to be https://"}},
		"a password in a URL":    {[]string{"--set", "omni.endpoint=https://me:secret@omni.example.com"}, []string{"omni.endpoint: it has to be https://"}},
		"a URL for an image":     {[]string{"--set", "image.repository=https://registry.example.com/x"}, []string{"image.repository: leave out the https://"}},
		"a tag in its place":     {[]string{"--set", "image.repository=registry.example.com:5000/x:v1"}, []string{"image.repository: put what stands behind the colon into image.tag"}},
		"no tag":                 {[]string{"--set", "image.tag="}, []string{"image.tag: it is missing", "VERSION"}},
		"no config":              {[]string{"--set-json", "config=null"}, []string{"missing property 'config'"}},
		"no Omni":                {[]string{"--set-json", "omni=null"}, []string{"missing property 'omni'"}},
		"a word for Secrets":     {[]string{"--set", "config.access.secrets=argocd"}, []string{"/config/access/secrets"}},
		"nothing for Secrets":    {[]string{"--set-json", "config.access.secrets=null"}, []string{"/config/access/secrets"}},
		"a word for a webhook":   {[]string{"--set", "config.sources[0].webhook=true"}, []string{"/config/sources/0/webhook"}},
		"a Secret not mounted":   {[]string{"--set", "config.sources[0].git.tokenFile=/etc/omni-syncd/credentials/fleet-gti/token,credentials={fleet-git}"}, []string{"there is no fleet-gti in credentials"}},
		"a password for Git":     {[]string{"--set", "config.sources[0].git.url=https://me:verysecret@git.example.com/x"}, []string{"config: there is a password in a URL", "tokenFile"}},
		"a password for a proxy": {[]string{"--set", "config.sources[0].git.proxy.url=http://me:verysecret@proxy.example.com"}, []string{"config: there is a password in a URL"}},
		"the key in an env":      {[]string{"--set", "extraEnv[0].name=OMNI_SERVICE_ACCOUNT_KEY,extraEnv[0].value=verysecret"}, []string{"extraEnv: leave out OMNI_SERVICE_ACCOUNT_KEY", "omni.existingSecret"}},
		"a label of ours":        {[]string{"--set", `commonLabels.app\.kubernetes\.io/instance=x`}, []string{"commonLabels: app.kubernetes.io/instance is set by the chart"}},
		"a label of our pods":    {[]string{"--set", `podLabels.app\.kubernetes\.io/name=x`}, []string{"podLabels: app.kubernetes.io/name is set by the chart"}},
		"all Secrets":            {[]string{"--set", "config.access.secrets.for=flux"}, []string{"config.access.secrets.namespace: name another one than the release's", "in omni is the key of Omni"}},
		"all Secrets, by name":   {[]string{"--set", "config.access.secrets.namespace=omni"}, []string{"config.access.secrets.namespace: name another one"}},
		"two CAs":                {[]string{"--set", "omni.ca.existingSecret=a,omni.ca.existingConfigMap=b"}, []string{"omni.ca: it has both"}},
		"a misspelt key":         {[]string{"--set", "leaderElecton.enabled=true"}, []string{"leaderElecton"}},
		"a misspelt inner key":   {[]string{"--set", "omni.endpiont=x"}, []string{"endpiont"}},
		"a key in the values":    {[]string{"--set", "omni.serviceAccountKey=x"}, []string{"serviceAccountKey"}},
		"a word for a number":    {[]string{"--set", "replicas=two"}, []string{"/replicas"}},
		"too many replicas":      {[]string{"--set", "replicas=100"}, []string{"/replicas"}},
		"a negative shard":       {[]string{"--set", "shards=-1"}, []string{"/shards"}},
		"a word for a duration":  {[]string{"--set", "leaderElection.leaseDuration=soon"}, []string{"/leaderElection/leaseDuration"}},
		"a port of root":         {[]string{"--set", "metrics.port=80"}, []string{"/metrics/port"}},
		"a port twice":           {[]string{"--set", "api.enabled=true,api.port=9464,api.tls.existingSecret=x,api.tokens.existingSecret=y"}, []string{"metrics.port, api.port, webhooks.port: each"}},
		"a short digest":         {[]string{"--set", "image.digest=sha256:abc"}, []string{"/image/digest"}},
		"a tag with a colon":     {[]string{"--set", "image.tag=a:b"}, []string{"/image/tag"}},
		"a pull policy":          {[]string{"--set", "image.pullPolicy=Sometimes"}, []string{"/image/pullPolicy", "IfNotPresent"}},
		"a path as a Secret":     {[]string{"--set", "credentials={../x}"}, []string{"/credentials/0"}},
		"a Secret twice":         {[]string{"--set", "credentials={a,a}"}, []string{"/credentials"}},
		"a path as a key":        {[]string{"--set", "omni.existingSecretKey=../x"}, []string{"/omni/existingSecretKey"}},
		"a short grace period":   {[]string{"--set", "terminationGracePeriodSeconds=30"}, []string{"/terminationGracePeriodSeconds", "31"}},
		"memory in words":        {[]string{"--set", "resources.limits.memory=much"}, []string{"/resources/limits/memory"}},
		"memory in milli":        {[]string{"--set", "resources.limits.memory=100m"}, []string{"resources.limits.memory", "write it like 512Mi or 1Gi"}},
		"our environment":        {[]string{"--set", "extraEnv[0].name=POD_IP,extraEnv[0].value=x"}, []string{"/extraEnv/0/name"}},
		"replicas without Lease": {[]string{"--set", "replicas=2,leaderElection.enabled=false"}, []string{"replicas: several of them need leaderElection.enabled"}},
		"replicas and shards":    {[]string{"--set", "replicas=2,shards=3"}, []string{"replicas: with shards there is one pod for each shard"}},
		"a volume for several":   {[]string{"--set", "replicas=2,persistence.enabled=true"}, []string{"persistence.enabled: several replicas cannot share a volume"}},
		"a claim for shards":     {[]string{"--set", "shards=2,persistence.enabled=true,persistence.existingClaim=x"}, []string{"persistence.existingClaim: with shards"}},
		"a claim for nothing":    {[]string{"--set", "persistence.existingClaim=x"}, []string{"persistence.existingClaim: it is not used"}},
		"an API without a cert":  {[]string{"--set", "api.enabled=true,api.tokens.existingSecret=x"}, []string{"api.tls.existingSecret: it is missing"}},
		"an API for nobody":      {[]string{"--set", "api.enabled=true,api.tls.existingSecret=x"}, []string{"api: nobody could get in"}},
		"tokens without an API":  {[]string{"--set", "api.tokens.existingSecret=x"}, []string{"api.enabled: it is false"}},
		"Kubernetes, no API":     {[]string{"--set-json", "config.api.kubernetes={}"}, []string{"api.enabled: it is false"}},
		"a cert without a hook":  {[]string{"--set", "webhooks.tls.existingSecret=x"}, []string{"webhooks.tls.existingSecret: no source in config.sources has a webhook"}},
		"our metrics":            {[]string{"--set", "config.metrics.listen=:1"}, []string{"config.metrics: the chart fills it in", "metrics.port"}},
		"our key":                {[]string{"--set", "config.omni.serviceAccountKeyFile=/x"}, []string{"config.omni: the chart fills it in"}},
		"our state":              {[]string{"--set", "config.stateDir=/x"}, []string{"config.stateDir: the chart fills it in", "persistence"}},
		"our election":           {[]string{"--set", "config.kubernetes.leaderElection.lease=x"}, []string{"config.kubernetes: the chart fills it in", "leaderElection"}},
		"our webhooks":           {[]string{"--set", "config.webhooks.listen=:1"}, []string{"config.webhooks: the chart fills it in"}},
		"our API":                {[]string{"--set", "config.api.listen=:1"}, []string{"config.api.listen: the chart fills it in", "api.port"}},
		"our certificate":        {[]string{"--set", "config.api.certFile=/x"}, []string{"config.api.certFile", "api.tls.existingSecret"}},
		"our tokens":             {[]string{"--set", "config.api.tokensFile=/x"}, []string{"config.api.tokensFile", "api.tokens.existingSecret"}},
		"a peer of no kind":      {[]string{"--set", "networkPolicy.apiFrom[0].pods=x"}, []string{"/networkPolicy/apiFrom/0"}},
		"an old Kubernetes":      {[]string{"--kube-version", "1.27.9"}, []string{">=1.28.0"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			out, failure := template(t, chart, namespace, c.args...)
			if failure == "" {
				t.Fatalf("it was rendered:\n%s", out)
			}

			if strings.Contains(failure, "verysecret") {
				t.Errorf("it tells the secret:\n%s", failure)
			}

			for _, want := range c.want {
				if !strings.Contains(failure, want) {
					t.Errorf("%q is not in:\n%s", want, failure)
				}
			}
		})
	}
}

// A chart without its alerts or its dashboard says so, and with them they come out as they are:
// nothing in them is taken for a template of Helm's.
func TestMonitoringFiles(t *testing.T) {
	for kind, c := range map[string]struct{ file, value, content, want string }{
		"alerts": {
			"alerts.yaml", "metrics.prometheusRule.enabled=true",
			"groups:\n  - name: x\n    rules:\n      - alert: X\n        expr: up == 0\n        annotations: {summary: \"{{ $labels.pod }} is {{ $value | humanize }}\"}\n",
			"summary: '{{ $labels.pod }} is {{ $value | humanize }}'",
		},
		"dashboard": {
			"dashboard.json", "metrics.dashboard.enabled=true",
			"{\"title\": \"{{source}}\"}\n", "    {\"title\": \"{{source}}\"}\n",
		},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()

			copied := filepath.Join(t.TempDir(), chart)
			if err := os.CopyFS(copied, os.DirFS(chart)); err != nil {
				t.Fatal(err)
			}

			file := filepath.Join(copied, "files", c.file)
			if err := os.RemoveAll(file); err != nil {
				t.Fatal(err)
			}

			if out, failure := template(t, copied, namespace, "--set", c.value); !strings.Contains(failure, "files/"+c.file+" is missing in the chart") {
				t.Errorf("%s%s", out, failure)
			}

			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}

			if err := os.WriteFile(file, []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}

			if out, failure := template(t, copied, namespace, "--set", c.value); failure != "" || !strings.Contains(out, c.want) {
				t.Errorf("%s%s", out, failure)
			}
		})
	}
}

// The README says what the values are; helm-docs writes it.
func TestReadme(t *testing.T) {
	copied := filepath.Join(t.TempDir(), chart)
	if err := os.CopyFS(copied, os.DirFS(chart)); err != nil {
		t.Fatal(err)
	}

	run(t, tool(t, "helm-docs"), "--chart-search-root", copied, "--sort-values-order", "file")

	got, err := os.ReadFile(filepath.Join(copied, "README.md"))
	if err != nil {
		t.Fatal(err)
	}

	if *update {
		if err := os.WriteFile(chart+"/README.md", got, 0o644); err != nil {
			t.Fatal(err)
		}
	}

	if bare := regexp.MustCompile(`(?m)^.*\|\s*\|$`).FindAllString(string(got), -1); len(bare) > 0 {
		t.Errorf("values without a word about them:\n%s", strings.Join(bare, "\n"))
	}

	if want, err := os.ReadFile(chart + "/README.md"); err != nil || string(want) != string(got) {
		t.Errorf("the README is stale (%v): `go test ./deploy/helm -run TestReadme -update` with %s writes it", err, env)
	}
}
