{{- /* How to ask Prometheus, as the operator's flags; nothing without a URL. */ -}}
{{- define "miyako.prometheus.args" -}}
{{- with .Values.prometheus }}
{{- if .url }}
- --prometheus-url={{ .url }}
{{- if .caConfigMap }}
- --prometheus-ca-file=/var/run/miyako/prometheus-ca/{{ .caKey }}
{{- end }}
{{- if .tokenSecret }}
- --prometheus-token-file=/var/run/miyako/prometheus-token/{{ .tokenKey }}
{{- end }}
{{- if .scrapeInterval }}
- --prometheus-scrape-interval={{ .scrapeInterval }}
{{- end }}
{{- with .nodeCpu }}
- {{ printf "--prometheus-node-cpu=%s" . | quote }}
{{- end }}
{{- with .nodeLabel }}
- --prometheus-node-label={{ . }}
{{- end }}
{{- with .namespaceLabel }}
- --prometheus-namespace-label={{ . }}
{{- end }}
{{- with .nameLabel }}
- --prometheus-name-label={{ . }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
