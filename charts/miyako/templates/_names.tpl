{{- /*
Everything of Miyako is named alike in every cluster, whatever the release is called: its custom resources are
cluster-wide, so there can be one installation only, and a second one fails on the first name instead of fighting
over VMs. Documents, admission policies and commands may thus speak of `miyako-operator` and mean it.
*/ -}}

{{- define "miyako.labels" -}}
app.kubernetes.io/name: miyako
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "miyako.operator.selector" -}}
app.kubernetes.io/name: miyako
app.kubernetes.io/component: operator
{{- end }}

{{- define "miyako.agent.selector" -}}
app.kubernetes.io/name: miyako
app.kubernetes.io/component: agent
{{- end }}

{{- define "miyako.waker.selector" -}}
app.kubernetes.io/name: miyako
app.kubernetes.io/component: waker
{{- end }}

{{- /* How admission sees the accounts. */ -}}
{{- define "miyako.operator.username" -}}
system:serviceaccount:{{ .Release.Namespace }}:miyako-operator
{{- end }}
{{- define "miyako.agent.username" -}}
system:serviceaccount:{{ .Release.Namespace }}:miyako-agent
{{- end }}

{{- define "miyako.waker.username" -}}
system:serviceaccount:{{ .Release.Namespace }}:miyako-waker
{{- end }}

{{- /* include "miyako.image" (dict "root" $ "image" .Values.operator.image) */ -}}
{{- define "miyako.image" -}}
{{- $registry := .root.Values.image.registry -}}
{{- if $registry }}{{ $registry }}/{{ end }}{{ .image.repository }}
{{- if .image.digest }}@{{ .image.digest }}{{ else }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}{{ end }}
{{- end }}
