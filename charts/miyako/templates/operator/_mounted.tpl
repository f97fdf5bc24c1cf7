{{- /* What is mounted into the operator: nothing, unless a value names it. */ -}}
{{- define "miyako.operator.volumes" -}}
{{- with .Values.wire.tlsSecret }}
- name: tls
  secret:
    secretName: {{ . }}
    # Readable by the operator's group alone.
    defaultMode: 0440
{{- end }}
{{- with .Values.prometheus.caConfigMap }}
- name: prometheus-ca
  configMap:
    name: {{ . }}
{{- end }}
{{- with .Values.prometheus.tokenSecret }}
- name: prometheus-token
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- end }}
