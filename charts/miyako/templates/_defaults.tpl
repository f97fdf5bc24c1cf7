{{- /*
What a group of values means that is missing. `helm upgrade --reuse-values` takes all values from the release that is
there, so groups that this chart brought since are missing then. What protects must not be lost that way, so each
template begins with this. values.yaml says the same; a test compares the two.
*/ -}}
{{- define "miyako.defaults" -}}
{{- $values := .Values -}}
{{- range $group, $default := (include "miyako.defaults.groups" . | fromYaml) -}}
{{- if kindIs "invalid" (get $values $group | default nil) -}}
{{- $_ := set $values $group $default -}}
{{- else -}}
{{- range $key, $inner := $default -}}
{{- $there := get $values $group -}}
{{- if not (hasKey $there $key) -}}
{{- $_ := set $there $key $inner -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "miyako.defaults.groups" -}}
agent:
  power: {enabled: false, wakeSource: controller, longestSleep: 12h}
waker: {enabled: false, replicas: 2, logFilter: info}
prometheus: {url: ""}
serviceMonitor: {enabled: false}
monitoring:
  prometheusRules: {enabled: false}
podDisruptionBudget: {enabled: true}
networkPolicy:
  enabled: true
  apiServer: {cidrs: [0.0.0.0/0, "::/0"], ports: [443, 6443]}
  prometheusPort: 9090
admissionPolicies: {enabled: true}
people: {aggregate: true}
cleanUp: {enabled: true}
{{- end -}}
