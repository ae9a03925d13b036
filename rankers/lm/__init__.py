"""Language models behind one face: local weights, and servers that speak the OpenAI protocol."""
