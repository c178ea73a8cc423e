// Draws one dashboard, whose JSON and data are in window.BOARD, with Grafana's own panels.
import { createRoot } from 'react-dom/client';
import { useMemo } from 'react';
import {
  applyFieldOverrides,
  createTheme,
  DataTransformerConfig,
  FieldConfigOptionsRegistry,
  getFieldDisplayName,
  getFieldDisplayValues,
  LoadingState,
  standardTransformers,
  standardTransformersRegistry,
  ThemeContext,
  toDataFrame,
  transformDataFrame,
} from '@grafana/data';
import * as ui from '@grafana/ui';
console.log(Object.keys(ui).filter((name) => /TimeSeries|Table|BigValue|Panel|Legend|GlobalStyles|uPlot|Plot/i.test(name)).join(' '));
